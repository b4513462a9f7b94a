// What the panel beside the graph says. Texts of the model only ever become text nodes.
"use strict";

// data: the page's JSON; nodes and nodeOf: its boxes, and the box of an op's index; colour and letter:
// how a group is marked; the rest are the graph's actions. Returns a function from a selection ({node, op} or null) to elements.
function details({ data, nodes, nodeOf, colour, letter, select, toggle, isOpen, searchFor }) {
  const element = (name, attributes = {}, ...children) => {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) {
      if (key === "click") made.addEventListener("click", value);
      else made.setAttribute(key, value);
    }
    made.append(...children.filter((child) => child !== null && child !== undefined));
    return made;
  };
  const scaled = (value, base, units) => {
    let i = 0;
    while (value >= base && i < units.length - 1) { value /= base; i += 1; }
    return `${i === 0 ? value : value >= 100 ? Math.round(value) : Number(value.toPrecision(3))}${units[i]}`;
  };
  const unknown = "not known";
  const count = (value) => value === null ? unknown : scaled(value, 1000, ["", " k", " M", " G", " T"]);
  const bytes = (value) => value === null ? unknown : scaled(value, 1024, [" B", " KiB", " MiB", " GiB"]);
  const ms = (value) => `${value < 0.0095 ? Number(value.toPrecision(2)) : value.toFixed(value < 10 ? 3 : 1)} ms`;
  const shape = (value) => `${value.dtype ?? "?"}[${value.shape === null ? "…" : value.shape.map((d) => d ?? "?").join(", ")}]`;
  const sum = (values) => values.reduce((a, b) => a + b, 0);
  const total = (ops, field) => {
    const known = ops.map((op) => op[field]).filter((value) => value !== null);
    return { known: sum(known), unknown: ops.length - known.length };
  };
  const amount = (value, write = count) => {
    if (!value.unknown) return write(value.known);
    return value.known ? `≥ ${write(value.known)}` : unknown;
  };

  const table = (heads, rows) => {
    const made = element("table");
    const numeric = (i) => heads[i].startsWith("#");
    if (heads.some((head) => head !== "" && head !== "#")) {
      made.append(element("thead", {}, element("tr", {}, ...heads.map((head, i) => element("th", numeric(i) ? { class: "number", scope: "col" } : { scope: "col" }, head.replace(/^#/, ""))))));
    }
    const body = element("tbody");
    rows.forEach((row) => body.append(element("tr", {}, ...row.map((cell, i) => element("td", numeric(i) ? { class: "number" } : {}, cell)))));
    made.append(body);
    return made;
  };
  const link = (text, click) => element("button", { type: "button", class: "link", click }, text);
  const key = (group) => element("span", { class: `key ${colour(group)}` }, letter(group));
  const opLink = (index) => link(`${data.ops[index].op_type} ${data.ops[index].id}`, () => select(nodeOf.get(index), nodeOf.get(index).inner ? index : null));

  // Target names break at their slashes only; times get a column where there are any.
  const targetName = (name) => element("code", { class: "target" }, ...name.split(/(?<=\/)/).flatMap((part) => [part, element("wbr")]));
  const timed = data.targets.some((target) => target.cost_ms !== null);
  const targetTable = (head, rows) => table(["target", head, ...(timed ? ["#time"] : [])], rows.map((row) => timed ? row : row.slice(0, 2)));

  function takes(target) {
    const { refused } = target;
    if (!refused.length) return element("span", { class: "yes" }, "✓ all of it");
    const reasons = new Set(refused.map(([, reason]) => reason));
    const list = element("details", {}, element("summary", {}, element("span", { class: "no" },
      refused.length === data.ops.length ? "✗ none of it" : `✗ not ${refused.length} of ${data.ops.length} ops`)));
    if (reasons.size === 1) list.append(element("p", {}, [...reasons][0]));
    refused.slice(0, 100).forEach(([index, reason]) => list.append(element("p", {}, opLink(index), reasons.size === 1 ? null : `: ${reason}`)));
    if (refused.length > 100) list.append(element("p", {}, `and ${refused.length - 100} more`));
    return list;
  }

  function overview() {
    const made = [element("h2", {}, "Overview"), element("p", { class: "muted" }, "Choose a box for its details; double-click or Enter opens a block. Drag or scroll to move, Ctrl and wheel to zoom, / to search.")];
    made.push(element("h3", {}, "Targets"));
    if (!data.targets.length) made.push(element("p", {}, "None was asked."));
    else made.push(targetTable("takes", data.targets.map((target) => [
      targetName(target.target), takes(target), target.cost_ms === null ? "" : ms(target.cost_ms)])));
    if (data.repeats.length) {
      made.push(element("h3", {}, "Repeated blocks"));
      made.push(table(["block", "#times", "#ops", "#FLOPs each"], data.repeats.map((row) => [
        link(row.label, () => select(nodes[row.nodes[0]])), String(row.nodes.length), String(row.ops), amount(total(nodes[row.nodes[0]].ops.map((i) => data.ops[i]), "flops"))])));
    }
    made.push(element("h3", {}, "Ops by type"));
    made.push(table(["type", "#ops", "#FLOPs", "#parameters"], data.op_types.map((row) => [
      link(row.op_type, () => searchFor(row.op_type)), String(row.count), amount(row.flops), count(row.parameters)])));
    return made;
  }

  function targetsOf(ops) {
    return targetTable("supports", data.targets.map((target, t) => {
      const refused = ops.filter((op) => op.refusals[t] !== null);
      const times = ops.map((op) => op.costs_ms[t]).filter((time) => time !== null);
      const reasons = [...new Set(refused.map((op) => op.refusals[t]))];
      const verdict = !refused.length ? element("span", { class: "yes" }, "✓ yes")
        : element("span", {}, element("span", { class: "no" }, ops.length > 1 ? `✗ ${refused.length} refused` : "✗ no"), `: ${reasons.join("; ")}`);
      return [targetName(target.target), verdict, times.length ? ms(sum(times)) : "–"];
    }));
  }
  const values = (list) => table(["value", "type"], list.map((value) => [
    element("code", {}, value.name), element("code", {}, shape(value))]));
  const costs = (ops) => table(["", "#"], [
    ["FLOPs", amount(total(ops, "flops"))],
    ["Read", amount(total(ops, "bytes_read"), bytes)],
    ["Written", amount(total(ops, "bytes_written"), bytes)],
    ["Parameters", `${amount(total(ops, "parameters"))} (${amount(total(ops, "parameter_bytes"), bytes)})`],
  ]);
  const placed = (group) => group === null ? null : element("p", {}, key(group), " ", data.groups[group].label);

  return (selected) => {
    let made;
    if (selected === null) made = overview();
    else {
      const { node, op: index } = selected;
      const close = element("button", { type: "button", class: "close", "aria-label": "Back to the overview", click: () => select(null) }, "×");
      if (node.kind === "value") {
        made = [close, element("h2", {}, node.label), element("p", { class: "muted" }, node.role), values(node.values)];
      } else if (index !== null) {
        const op = data.ops[index];
        made = [close, element("h2", {}, op.op_type), element("p", {}, element("code", {}, op.id)),
          op.domain ? element("p", { class: "muted" }, `domain ${op.domain}`) : null,
          node.inner ? element("p", {}, "in ", link(node.label, () => select(node))) : null,
          placed(op.group),
          element("h3", {}, "Targets"), targetsOf([op]),
          element("h3", {}, "Inputs"), values(op.inputs), element("h3", {}, "Outputs"), values(op.outputs),
          element("h3", {}, "Work"), costs([op])];
      } else {
        const ops = node.ops.map((i) => data.ops[i]);
        const equal = node.equal.length > 1 ? element("p", {}, `One of ${node.equal.length} equal blocks. `,
          link("Next", () => select(nodes[node.equal[(node.equal.indexOf(node.id) + 1) % node.equal.length]]))) : null;
        made = [close, element("h2", {}, node.label), element("p", { class: "muted" }, `${node.block_kind} block of ${ops.length} ops`), equal,
          element("p", {}, element("button", { type: "button", click: () => toggle(node) }, isOpen(node) ? "Close the block" : "Open the block")),
          placed(node.group),
          element("h3", {}, "Targets"), targetsOf(ops), element("h3", {}, "Work"), costs(ops),
          element("h3", {}, "Ops"), table(["", "#FLOPs"], node.ops.map((i) => [opLink(i), count(data.ops[i].flops)]))];
      }
    }
    return made.filter(Boolean);
  };
}
