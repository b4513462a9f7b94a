"""``dioe.compile``: a model goes in, a session that runs it on its fastest target comes out."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict, Unpack, overload

from dioe.cachedir import cache_dir as default_cache_dir
from dioe.graph import CONTROL, RECURRENT, Model, Source
from dioe.hardware import Pool, fingerprint, pool_from, with_devices
from dioe.hardware.limits import Limits, LimitsLike, check_devices, limits_from
from dioe.planning import POLICIES, AnyPlan, check_plan, load_plan
from dioe.planning.plan_file import MAKE_ANEW
from dioe.precision import written_precisions
from dioe.profiling import History
from dioe.runtime import Pipeline, PipelineSession, Runtime, Session
from dioe.tuning.background import BackgroundTuner
from dioe.tuning.beside import settings_beside
from dioe.tuning.clock import Budget, Stopwatch, check_seconds
from dioe.tuning.found import breaking_names
from dioe.tuning.known import Known
from dioe.tuning.limited import Limited
from dioe.tuning.memory_limits import judged_by_memory
from dioe.tuning.modelled import modelled_devices
from dioe.tuning.pins import Pin, Pins, keep_to_pins, parse_pins
from dioe.tuning.plan_cache import PlanCache
from dioe.tuning.samples import Samples, ShapeGroup, samples_digest, shape_groups
from dioe.tuning.targets import Candidate, candidates, error_cause
from dioe.tuning.tune import Goal, Progress, Tuner, Tuning, may_start
from dioe.types import (
    ABI_VERSION,
    InputError,
    ModelError,
    Plan,
    PlanMismatch,
    UnsupportedError,
)

log = logging.getLogger(__name__)

_MADE_UP = "inputs were made up; give sample inputs for real ones"


@dataclass(frozen=True, slots=True)
class Settings:
    """The options of ``compile`` that a plan depends on."""

    devices: Sequence[str] | str = "auto"
    policy: str = "latency"
    precision: str = "fp32"
    max_relative_l2: float | None = None
    tuning_budget_s: float = 30.0
    pins: Pins = ()
    strict: bool = False
    limits: LimitsLike = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "pins", tuple(map(str, parse_pins(self.pins))))
        object.__setattr__(self, "limits", limits_from(self.limits))
        if self.policy not in POLICIES:
            raise InputError(
                f"policy {self.policy!r} is unknown", fix=f"use one of: {', '.join(POLICIES)}"
            )
        check_seconds("tuning_budget_s", self.tuning_budget_s)
        named = [self.devices] if isinstance(self.devices, str) else self.devices
        if not isinstance(named, Sequence) or not all(isinstance(d, str) for d in named):
            raise InputError(
                f"devices is {self.devices!r}", fix="use 'auto', or name some: ['cpu', 'gpu:0']"
            )

    def to_data(self) -> dict[str, Any]:
        """As plain data for JSON, the same for equal settings."""
        return asdict(replace(self, limits=None)) | {"limits": limits_from(self.limits).to_data()}


class Options(TypedDict, total=False):
    """The options of ``compile_model``, which tells what they mean."""

    hardware: str | PathLike[str] | Pool | None
    devices: Sequence[str] | str
    policy: str
    precision: str
    max_relative_l2: float | None
    sample_inputs: Samples
    tuning_budget_s: float
    pins: Pins
    strict: bool
    limits: LimitsLike
    plan: AnyPlan | str | PathLike[str] | None
    state: Mapping[str, str] | None
    cache_dir: str | PathLike[str] | None
    tune_shapes: bool


@overload
def compile_model(model: Source, **options: Unpack[Options]) -> Session: ...
@overload
def compile_model(model: Pipeline, **options: Unpack[Options]) -> PipelineSession: ...
def compile_model(
    model: Source | Pipeline,
    *,
    hardware: str | PathLike[str] | Pool | None = None,
    devices: Sequence[str] | str = "auto",
    policy: str = "latency",
    precision: str = "fp32",
    max_relative_l2: float | None = None,
    sample_inputs: Samples = None,
    tuning_budget_s: float = 30.0,
    pins: Pins = (),
    strict: bool = False,
    limits: LimitsLike = None,
    plan: AnyPlan | str | PathLike[str] | None = None,
    state: Mapping[str, str] | None = None,
    cache_dir: str | PathLike[str] | None = None,
    tune_shapes: bool = True,
) -> Session | PipelineSession:
    """A session for ``model`` on the fastest target within the fidelity limit, by measurement.

    Args:
        model: Path of an ONNX file, its bytes, ``onnx.ModelProto`` or ``onnx_ir.Model``; or a
            ``Pipeline`` of several (docs/pipelines.md), whose values, ops and state then are named
            ``node.name`` in the other arguments.
        hardware: A pool, or the path of its YAML file; None looks at this machine.
        devices: ``auto``, or device ids or beginnings of targets (``cpu``, ``cpu/openvino``).
        policy: What to optimise; ``latency``.
        precision: ``fp32`` (as written), ``auto`` (lower it within the limit, judged on
            ``sample_inputs``), or one precision.
        max_relative_l2: Largest relative L2 error of any output; None takes the mode's default
            (1e-4 as written, 5e-2 for models with Q/DQ nodes, 1e-2 for ``auto``).
        sample_inputs: One feed or several, real ones: what shapes to tune for and what to judge
            fidelity on. None makes inputs up, and then lowers no precision.
        tuning_budget_s: Seconds for measuring; 0 starts at once on a sensible default.
        pins: Which ops have to run where: patterns of their names (or ``type:Conv``) and devices or
            targets, as a mapping or ``PATTERN=TARGET``; the first that matches an op counts, those
            given here before those of ``hardware``.
        strict: Raise where a pin can't be kept, instead of placing its ops freely with a note, and
            use no last resort that isn't named.
        limits: What plans may use at most: memory by device, precisions that are forbidden, stages,
            power. A mapping as in a pool file, ``{"memory": {"gpu:0": "8 GiB"}, "forbid": {"cpu":
            ["bf16"]}, "max_stages": 2, "power": "60 W"}``; each wins over that of ``hardware``
            (docs/cli.md, Limits).
        plan: A plan made before (or its file): loads it and measures nothing. It has decided about
            devices, policy, precision, max_relative_l2, pins, strict and limits: giving one beside
            it is an InputError.
        state: Outputs that become inputs of the next run (``{"stateN": "state"}``).
        cache_dir: Where tuned plans are kept; None is ``DIOE_CACHE_DIR`` or the user's cache.
        tune_shapes: Prepare variants in the background for shapes that come later, measuring for
            up to ``tuning_budget_s`` seconds more (docs/shapes.md); not with a plan made before.

    Raises:
        ModelError, InputError, UnsupportedError, FidelityError, PlanMismatch, ConfigError,
        BackendError: as ``dioe.types`` describes them.
    """
    settings = Settings(
        devices, policy, precision, max_relative_l2, tuning_budget_s, pins, strict, limits
    )
    if plan is not None:
        check_beside_plan(settings)
    folder = cache_folder(cache_dir)
    if isinstance(model, Pipeline):
        from dioe.tuning.pipelines import PipelineJob

        whole = PipelineJob(
            model, hardware=hardware, settings=settings, sample_inputs=sample_inputs, state=state,
            history=History(folder),
        )  # fmt: skip
        if plan is not None:
            return whole.session(whole.checked_plan(plan))
        return whole.start(PlanCache(folder), tune_shapes=tune_shapes)
    job = Job(
        model, hardware=hardware, settings=settings, sample_inputs=sample_inputs, state=state,
        history=History(folder),
    )  # fmt: skip
    if plan is not None:
        return job.session([job.checked_plan(plan)])
    return job.start(PlanCache(folder), tune_shapes=tune_shapes)


def check_beside_plan(settings: Settings) -> None:
    """Raise InputError for a setting that a plan made before leaves no room for.

    One at its default wasn't given; the budget is for measuring, and a plan made before needs none.
    """
    default = Settings()
    for name in ("devices", "policy", "precision", "max_relative_l2", "pins", "strict", "limits"):
        given = getattr(settings, name)
        if given != getattr(default, name):
            shown = list(given) if isinstance(given, tuple) else given
            shown = shown.to_data() if isinstance(shown, Limits) else shown
            raise InputError(
                f"{name}={shown!r} is given beside plan=, which has decided that",
                place="dioe.compile",
                fix=f"leave {name} out, or leave plan out to tune with it",
            )


def cache_folder(cache_dir: str | PathLike[str] | None) -> Path:
    """Where what was tuned and measured is kept; raises InputError for what names no folder."""
    if cache_dir is None:
        return default_cache_dir()
    if not isinstance(cache_dir, str | PathLike):
        raise InputError(f"cache_dir is {cache_dir!r}", fix="give a folder's path, or None")
    return Path(cache_dir)


def loaded_plan(plan: AnyPlan | str | PathLike[str]) -> AnyPlan:
    """The plan, read where ``plan`` is its file; raises PlanMismatch, and InputError for others."""
    if isinstance(plan, AnyPlan):
        return plan
    if not isinstance(plan, str | PathLike):
        raise InputError(f"plan is a {type(plan).__name__}", fix="give a plan, or its file")
    return load_plan(plan)


class Job:
    """One compilation: the model, the pool and the inputs, looked up once."""

    def __init__(
        self,
        model: Source,
        *,
        hardware: str | PathLike[str] | Pool | None,
        settings: Settings,
        sample_inputs: Samples,
        shapes: Mapping[str, Sequence[int]] | None = None,
        state: Mapping[str, str] | None = None,
        runtime: Runtime | None = None,
        history: History | None = None,
        progress: Progress = lambda text: None,
    ) -> None:
        self.settings = settings
        self.history = history or History(None)
        if state is not None and not isinstance(state, Mapping):
            raise InputError(
                f"state is {state!r}", fix='map outputs to inputs: {"stateN": "state"}'
            )
        self.state = dict(state or {})
        self.runtime = runtime or Runtime.current()
        self.pool = pool_from(hardware)
        if hardware is None:
            self.pool = with_devices(self.pool, self.runtime.registry.placements)
        self.hardware = fingerprint(self.pool)
        self.model = Model.load(model)
        self.progress = progress
        self.watch = Stopwatch()
        self._broken: dict[str, str] = {}
        self._samples = sample_inputs
        self._shapes = shapes

    @cached_property
    def groups(self) -> list[ShapeGroup]:
        """The sample inputs by their shapes, or made-up ones; a plan made before needs none."""
        return shape_groups(self.model, self._samples, shapes=self._shapes, state=self.state)

    @property
    def versions(self) -> dict[str, str]:
        """Version of every usable backend."""
        statuses = self.runtime.registry.statuses
        return {s.name: s.version for s in statuses if s.version}

    def bound_model(self, group: ShapeGroup) -> Model:
        """The model with the group's shapes bound."""
        return self.model.with_shapes(group.shapes) if group.shapes else self.model

    def candidates(self, group: ShapeGroup, *, measured: bool = True) -> list[Candidate]:
        """Every target worth a try on the group's shapes; the first to start on if none will be
        measured and no op is pinned."""

        def enough(candidate: Candidate) -> bool:
            first = may_start(candidate, self.settings.precision) and not candidate.last_resort
            return first and not measured and not self.pins

        found = candidates(
            self.bound_model(group),
            self.pool,
            self.runtime,
            precision=self.settings.precision,
            quantised=self.model.quantised,
            devices=self.settings.devices,
            pinned=[pin.target for pin in self.pins],
            last_resorts=not self.settings.strict,
            broken=self._broken,
            limited=self.limited,
            enough=enough,
            budget_s=self.settings.tuning_budget_s,
        )
        placed = [self._of_placed_ops(candidate) for candidate in found]
        return judged_by_memory(placed, self.bound_model(group))

    def _of_placed_ops(self, candidate: Candidate) -> Candidate:
        """The candidate, ops that no plan places left out of what it refuses: they are counted
        nowhere else. Unless it refuses nothing else."""
        refused = candidate.support.refused
        placed = {op: refused[op] for op in self.model.placed_op_ids if op in refused}
        if not placed or len(placed) == len(refused):
            return candidate
        return replace(candidate, support=replace(candidate.support, refused=placed))

    @cached_property
    def pins(self) -> tuple[Pin, ...]:
        """Those of the settings, then those of the pool."""
        return (*parse_pins(self.settings.pins), *parse_pins(dict(self.pool.pins)))

    @cached_property
    def limits(self) -> Limits:
        """Those of the settings, and of the pool's those on what isn't limited there. Raises
        InputError for a device that isn't here."""
        limits = limits_from(self.settings.limits).over(self.pool.limits)
        devices = {device.id for device in self.pool.devices}
        check_devices(limits, devices | modelled_devices(self.runtime.registry))
        return limits

    @cached_property
    def limited(self) -> Limited:
        """What the limits mean for this model on this pool."""
        if not self.limits:
            return Limited()
        return Limited(self.limits, self.pool, written_precisions(self.model))

    def known(self, group: ShapeGroup) -> Known:
        """What the history knows of the model with the group's shapes and samples."""
        return Known(
            self.history,
            model_sha256=self.model.sha256,
            shapes=group.shapes,
            samples=samples_digest(group.feeds),
            hardware=self.hardware,
            versions=self.versions,
            modelled=modelled_devices(self.runtime.registry),
        )

    def start(self, cache: PlanCache | None, *, tune_shapes: bool = True) -> Session:
        """Tune and load. A target that fails to load is passed over, and the rest tuned anew.

        With ``tune_shapes`` and a budget, the session tunes for other shapes in the background.
        """
        while True:
            tunings = self.tunings(cache=cache)
            try:
                return self.session([t.plan for t in tunings], tune_shapes=tune_shapes)
            except (Exception, SystemExit) as error:
                if isinstance(error, InputError | ModelError):  # the caller's, not a target's
                    raise
                new = self._failing_to_load(tunings)
                if not new.keys() - self._broken.keys():
                    raise
                self._broken |= new

    def _failing_to_load(self, tunings: Sequence[Tuning]) -> dict[str, str]:
        """Plans that can't even be loaded alone, and the reasons; targets where they are single."""
        reasons: dict[str, str] = {}
        for tuning in tunings:
            try:
                self.session([tuning.plan]).close()
            except (Exception, SystemExit) as error:
                names, cause = breaking_names(tuning.plan), error_cause(error)
                log.warning("%s fails to load: %s", ", ".join(names), cause)
                log.debug("that was", exc_info=True)
                reasons |= dict.fromkeys(names, cause)
        return reasons

    def checked_plan(self, plan: AnyPlan | str | PathLike[str]) -> Plan:
        """A plan made before; raises PlanMismatch if it isn't for this model and hardware."""
        loaded = loaded_plan(plan)
        place = str(plan) if isinstance(plan, str | PathLike) else "plan"
        if not isinstance(loaded, Plan):
            raise PlanMismatch(
                "the plan of a pipeline, not of a model",
                place=place,
                fix="give the dioe.Pipeline that it was made for",
            )
        check_plan(
            loaded,
            self.model,
            hardware=self.hardware,
            cores={core for device in self.pool.devices for core in device.cores},
            versions=self.versions,
            place=place,
        )
        for problem in self.limited.breaches(loaded.stages):
            raise PlanMismatch(f"it breaks the limits: {problem}", place=place, fix=MAKE_ANEW)
        return loaded

    def tunings(self, cache: PlanCache | None = None) -> list[Tuning]:
        """A tuning for each group of shapes, the budget shared out; kept ones from the cache."""
        budget = Budget(self.settings.tuning_budget_s)
        tuned: list[Tuning] = []
        for index, group in enumerate(self.groups):
            share_s = max(0.0, budget.left_s) / (len(self.groups) - index)
            tuned.append(self._tune(group, share_s, cache))
        return tuned

    def _tune(self, group: ShapeGroup, budget_s: float, cache: PlanCache | None) -> Tuning:
        key = cache.key(group, self._cache_settings(group)) if cache is not None else ""
        known = cache.get(key) if cache is not None and budget_s > 0 else None
        if known is not None and self._usable(known):
            log.info("plan found in the cache: %s", ", ".join(known.targets))
            return Tuning(known, [], list(known.candidates))
        bound = self.bound_model(group)
        with self.watch.part("plan_s"):
            found = self.candidates(group, measured=budget_s > 0)
            pinned = keep_to_pins(found, bound, self.pins, strict=self.settings.strict)
            found = pinned.candidates
        limited, devices = self.limited, {c.target.device for c in found}
        goal = Goal(
            self.settings.policy,
            self.settings.precision,
            self.settings.max_relative_l2,
            self.hardware,
            real_inputs=group.real,
            versions=self.versions,
            pinned=pinned.ops,
            notes=(*(() if group.real else (_MADE_UP,)), *pinned.notes, *limited.notes(devices)),
            limited=limited,
        )
        tuner = Tuner(
            bound, self.model, group.feeds, found, goal, self.runtime, self.known(group),
            settings_beside(found, self.pool, small_pieces=self._small_pieces),
            broken=self._broken, progress=self.progress,
        )  # fmt: skip
        tuned = tuner.tune(budget_s)
        tuned.plan = limited.with_power(tuned.plan)
        if cache is not None and budget_s > 0:
            cache.put(key, tuned.plan)
        return tuned

    @property
    def _small_pieces(self) -> bool:
        """Whether ops of the model work step by step, with little to do in each."""
        return not (RECURRENT | CONTROL).isdisjoint(self.model.op_types)

    def _usable(self, plan: Plan) -> bool:
        if not self._broken.keys().isdisjoint({*plan.targets, *breaking_names(plan)}):
            return False
        try:
            for stage in plan.stages:
                self.runtime.registry.backend(stage.target.backend)
                self.runtime.registry.placement(stage.target.device)
        except UnsupportedError:
            return False
        return plan.model_sha256 == self.model.sha256 and plan.hardware == self.hardware

    def _cache_settings(self, group: ShapeGroup) -> dict[str, Any]:
        return {
            "model": self.model.sha256,
            "hardware": self.hardware,
            "shapes": group.shapes,
            "real": group.real,
            "settings": self.settings.to_data(),
            "limits": self.limited.key(device.id for device in self.pool.devices),
            "pins": [str(pin) for pin in self.pins],
            "versions": self.versions,
            "abi": ABI_VERSION,
        }

    def session(self, plans: Sequence[Plan], *, tune_shapes: bool = False) -> Session:
        """A session with these plans loaded."""
        tuner = self._shape_tuner(plans) if tune_shapes else None
        return Session(self.model, plans, runtime=self.runtime, state=self.state, tuner=tuner)

    def _shape_tuner(self, plans: Sequence[Plan]) -> BackgroundTuner | None:
        """What prepares variants for other shapes; None where none can come or none may be kept."""
        fixed = all(spec.static for spec in self.model.inputs if spec.kind == "tensor")
        if fixed or self.settings.tuning_budget_s <= 0:
            return None
        tuner = BackgroundTuner(
            self.model,
            plans,
            pool=self.pool,
            runtime=self.runtime,
            budget_s=self.settings.tuning_budget_s,
            limited=self.limited,
        )
        return tuner if tuner.most_variants else None
