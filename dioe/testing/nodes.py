"""ONNX's own node cases: the subset that backends are judged by, and all of them.

The cases come with onnx (``onnx.backend.test``), one model of one op each, with its inputs and
what has to come out. The subset has each operator that models of today are made of, its attributes
where runtimes differ (axes, pads, broadcasting, layouts), and the dtypes they are met in. Cases
that draw random numbers, train or decode pictures are in neither.
"""

from __future__ import annotations

import functools
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, numpy_helper, version_converter

from dioe.types import Value


@dataclass(frozen=True, slots=True)
class Family:
    """Operators that belong together. ``lower``: they compute, and small errors of inputs stay
    small, so that they are run in lower precisions than fp32 too."""

    names: tuple[str, ...]
    lower: bool = True


def _family(names: str, *, lower: bool = True) -> Family:
    return Family(tuple(names.split()), lower)


FAMILIES: dict[str, Family] = {
    "arithmetic": _family(
        "abs add add_bcast sub sub_bcast mul mul_bcast div div_bcast neg pow pow_bcast_scalar sqrt"
        " reciprocal exp log erf sin cos max_example min_example mean_example sum_example"
        " clip_example clip_default_min clip_outbounds"
    ),
    "activation": _family(
        "relu leakyrelu elu selu sigmoid tanh hardsigmoid hardswish softplus softsign mish"
        " gelu_default_1 gelu_tanh_1 prelu_example prelu_broadcast thresholdedrelu"
        " softmax_example softmax_axis_0 softmax_axis_1 softmax_large_number"
        " logsoftmax_axis_1 logsoftmax_negative_axis"
    ),
    "product": _family(
        "matmul_2d matmul_3d matmul_4d matmul_bcast gemm_default_no_bias gemm_default_vector_bias"
        " gemm_transposeA gemm_transposeB gemm_all_attributes einsum_batch_matmul"
        " einsum_inner_prod attention_4d attention_4d_causal"
    ),
    "convolution": _family(
        "basic_conv_with_padding basic_conv_without_padding conv_with_strides_padding"
        " conv_with_strides_and_asymmetric_padding conv_with_autopad_same convtranspose"
        " convtranspose_1d convtranspose_pads convtranspose_dilations convtranspose_group_2"
        " convtranspose_output_shape"
    ),
    "pooling": _family(
        "averagepool_1d_default averagepool_2d_default averagepool_2d_pads averagepool_2d_ceil"
        " averagepool_2d_pads_count_include_pad averagepool_2d_same_upper averagepool_2d_strides"
        " averagepool_3d_default maxpool_1d_default maxpool_2d_default maxpool_2d_pads"
        " maxpool_2d_ceil maxpool_2d_dilations maxpool_2d_same_lower maxpool_2d_strides"
        " maxpool_3d_default globalaveragepool globalmaxpool lppool_2d_default"
    ),
    "normalization": _family(
        "batchnorm_example batchnorm_epsilon instancenorm_example group_normalization_example"
        " layer_normalization_2d_axis1 layer_normalization_3d_axis2_epsilon"
        " layer_normalization_4d_axis_negative_1 rms_normalization_2d_axis1 lrn"
        " l2normalization_axis_1 mvn"
    ),
    "reduction": _family(
        "reduce_sum_default_axes_keepdims_random reduce_sum_do_not_keepdims_random"
        " reduce_sum_keepdims_random reduce_sum_negative_axes_keepdims_random"
        " reduce_sum_empty_axes_input_noop reduce_mean_default_axes_keepdims_random"
        " reduce_mean_do_not_keepdims_random reduce_max_do_not_keepdims_random"
        " reduce_min_keepdims_random reduce_prod_keepdims_random reduce_l1_keep_dims_random"
        " reduce_l2_do_not_keepdims_random reduce_log_sum_exp_keepdims_random"
        " reduce_sum_square_keepdims_random cumsum_2d_axis_0 cumsum_1d_reverse_exclusive"
    ),
    "recurrent": _family(
        "lstm_defaults lstm_with_initial_bias lstm_with_peepholes lstm_bidirectional gru_defaults"
        " gru_seq_length gru_bidirectional simple_rnn_defaults"
    ),
    "movement": _family(
        "concat_2d_axis_0 concat_3d_axis_negative_1 slice slice_neg_steps slice_default_axes"
        " slice_start_out_of_bounds split_equal_parts_2d split_variable_parts_2d_opset18"
        " split_zero_size_splits_opset18 transpose_default transpose_all_permutations_3"
        " reshape_negative_dim reshape_zero_dim reshape_reduced_dims reshape_allowzero_reordered"
        " squeeze squeeze_negative_axes unsqueeze_two_axes unsqueeze_negative_axes flatten_axis2"
        " expand_dim_changed tile gather_0 gather_1 gather_negative_indices gather_elements_1"
        " gathernd_example_float32 scatter_elements_with_axis scatternd scatternd_add"
        " constant_pad edge_pad reflect_pad depthtospace_example depthtospace_crd_mode_example"
        " spacetodepth where_example identity tril triu_neg reversesequence_batch"
        " dropout_default_old",
        lower=False,
    ),
    "resampling": _family(
        "resize_upsample_scales_nearest resize_upsample_scales_linear"
        " resize_downsample_scales_linear resize_upsample_sizes_nearest"
        " resize_upsample_scales_linear_align_corners"
        " resize_downsample_sizes_linear_pytorch_half_pixel"
        " resize_downsample_sizes_linear_antialias resize_upsample_scales_cubic gridsample_bilinear"
        " roialign_aligned_true affine_grid_2d"
    ),
    "comparison": _family(
        "equal equal_bcast greater greater_equal less less_bcast less_equal and3d or_bcast3v1d"
        " xor2d not_2d isnan isinf where_long_example",
        lower=False,
    ),
    "rounding": _family(
        "ceil floor round sign mod_mixed_sign_float32 mod_float32_mixed_sign_fmod_0",
        lower=False,
    ),
    "integer": _family(
        "add_uint8 sub_int8 mul_int16 div_int32_trunc mod_mixed_sign_int32 max_int32 min_int64"
        " cumsum_2d_int32 bitwise_and_i32_2d bitshift_right_uint32 equal_int8 greater_uint8"
        " matmulinteger",
        lower=False,
    ),
    "indices": _family(
        "argmax_keepdims_random argmax_negative_axis_keepdims_random"
        " argmax_keepdims_example_select_last_index argmin_no_keepdims_random top_k"
        " top_k_smallest nonzero_example onehot_with_axis compress_1 unique_sorted_without_axis"
        " nonmaxsuppression_suppress_by_IOU shape shape_start_1_end_2 size"
        " range_int32_type_negative_delta constantofshape_float_ones constantofshape_int_zeros"
        " eyelike_with_dtype constant",
        lower=False,
    ),
    "types": _family(
        "cast_FLOAT_to_DOUBLE cast_DOUBLE_to_FLOAT cast_FLOAT_to_FLOAT16 cast_FLOAT16_to_FLOAT"
        " cast_FLOAT_to_BFLOAT16 cast_BFLOAT16_to_FLOAT cast_FLOAT_to_FLOAT8E4M3FN"
        " cast_FLOAT8E4M3FN_to_FLOAT cast_FLOAT_to_INT4 cast_INT4_to_FLOAT castlike_DOUBLE_to_FLOAT"
        " max_float16 max_float64",
        lower=False,
    ),
    "quantized": _family(
        "quantizelinear quantizelinear_axis dequantizelinear dequantizelinear_axis"
        " dequantizelinear_int4 dequantizelinear_blocked dynamicquantizelinear"
        " qlinearmatmul_2D_uint8_float32 qlinearconv",
        lower=False,
    ),
    "control": _family("if loop11 scan9_sum", lower=False),
    "text": _family(
        "string_concat string_split_basic regex_full_match_basic equal_string"
        " tfidfvectorizer_tf_only_bigrams_skip0",
        lower=False,
    ),
    "sequence": _family(
        "sequence_insert_at_back sequence_insert_at_front split_to_sequence_1 identity_sequence"
        " if_seq loop13_seq identity_opt optional_get_element_tensor"
        " optional_has_element_empty_optional_input",
        lower=False,
    ),
}
"""The subset. Names are those of onnx, without ``test_``."""

SUBSET: dict[str, str] = {name: key for key, family in FAMILIES.items() for name in family.names}
"""The family of each case of the subset."""

OPSET, IR_VERSION = 22, 10
"""Cases written in a newer opset than this (ONNX 1.17 of October 2024) are brought back to it where
their op was there already: runtimes lag behind, and the cases are about the ops."""

_EXCLUDED = re.compile(
    r"bernoulli|random|^image_decoder|training|dropout_.*_(mask|ratio)|^adam|^adagrad|momentum"
    r"|^averagepool_2d_ceil_last_window_starts_on_pad"
)
"""Cases that are random, train, need a library for pictures, or (the last) give results of four
digits. (``reduce_…_random`` are data drawn once, and stay.)"""


@dataclass(frozen=True)
class NodeCase:
    """One case: its model, its feeds, and what has to come out, by the case's own tolerances.

    ``drawn``: zeros and ones that the op draws, as one run of numpy's own generator had them.
    """

    name: str
    proto: ModelProto
    feeds: dict[str, Value]
    expected: dict[str, Value]
    rtol: float
    atol: float
    drawn: bool = False


@functools.cache
def _all() -> dict[str, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows and divisions by zero that cases are about
        from onnx.backend.test.loader import load_model_tests

        tests = load_model_tests(kind="node")
    return {test.name.removeprefix("test_"): test for test in tests}


def every() -> tuple[str, ...]:
    """Names of all cases of the installed onnx, without ``test_``. Takes seconds the first time:
    onnx computes them, with fixed seeds, so that they are the same in every process."""
    return tuple(sorted(_all()))


def names() -> tuple[str, ...]:
    """Names of all cases of the installed onnx that backends are judged by, without ``test_``.
    Takes as long as ``every``."""
    return tuple(sorted(name for name in _all() if name in SUBSET or _can_be_judged(name)))


def _can_be_judged(name: str) -> bool:
    drawn_once = name.startswith(("reduce_", "argmax_", "argmin_"))
    return drawn_once or _EXCLUDED.search(name) is None


def node_case(name: str, *, as_written: bool = False) -> NodeCase:
    """The case of that name, ``as_written`` or brought back to ``OPSET``; raises KeyError where the
    installed onnx doesn't have it."""
    test = _all()[name]
    if test.model is None or test.data_sets is None:  # as files: none of onnx 1.18 to 1.23
        raise KeyError(f"{name}: onnx gives this case as a file")
    proto: ModelProto = test.model
    (inputs, outputs), *_ = test.data_sets
    if not as_written:
        proto = _brought_back(proto)
    in_names = [value.name for value in proto.graph.input]
    out_names = [value.name for value in proto.graph.output]
    feeds, expected = _values(in_names, inputs), _values(out_names, outputs)
    drawn = name.startswith("bernoulli")
    return NodeCase(name, proto, feeds, expected, test.rtol, test.atol, drawn)


def _brought_back(proto: ModelProto) -> ModelProto:
    """The case in ``OPSET``; as it is where its op came later."""
    newest = max((o.version for o in proto.opset_import if o.domain == ""), default=0)
    if newest <= OPSET:
        return proto
    try:
        older = version_converter.convert_version(proto, OPSET)
    except (RuntimeError, version_converter.ConvertError):  # there is no such op in it
        return proto
    older.ir_version = IR_VERSION
    return older


def _values(names: Sequence[str], values: Sequence[Any]) -> dict[str, Value]:
    return {name: _value(value) for name, value in zip(names, values, strict=True)}


def _value(value: Any) -> Value:
    if isinstance(value, TensorProto):
        return numpy_helper.to_array(value)
    if isinstance(value, list):
        return [_value(each) for each in value]
    return None if value is None else np.asarray(value)
