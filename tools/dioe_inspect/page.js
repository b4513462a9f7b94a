// Draws the graph that the page carries as JSON, and moves about in it; panel.js comes before.
// Texts of the model only ever become text nodes.
"use strict";
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const graph = document.getElementById("graph");
  const panel = document.getElementById("panel");
  const map = document.getElementById("map");
  const NODE_H = 42, ROW_GAP = 34, OP_H = 32, OP_GAP = 20, PAD = 12, HEAD = 30;

  // --- small helpers ---------------------------------------------------------------------------

  const svg = (name, attributes = {}, text = null) => {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    if (text !== null) made.textContent = text;
    return made;
  };
  const clip = (text, width) => {
    const most = Math.max(3, Math.floor(width / 7.1)); // 7.1 px: a wide average at 12.5 px
    const points = [...text];
    return points.length > most ? points.slice(0, most - 1).join("") + "…" : text;
  };
  const colour = (group) => group === null ? "none" : `c${group % 8}`;
  const letter = (group) => group === null ? "–" : data.groups[group].letter;

  // --- places ----------------------------------------------------------------------------------

  const open = new Set();
  const nodes = data.nodes.map((node, id) => ({ ...node, id, before: [], after: [] }));
  const nodeOf = new Map();
  nodes.forEach((node) => node.ops.forEach((op) => nodeOf.set(op, node)));
  for (const edge of data.edges) {
    nodes[edge.s].after.push(edge);
    nodes[edge.d].before.push(edge);
  }
  const items = Array.from({ length: data.layers }, () => []); // what stands in each layer, and where
  nodes.forEach((node) => items[node.layer].push({ node, x: node.x }));
  data.edges.forEach((edge) => edge.bends.forEach((x, i) => {
    items[nodes[edge.s].layer + 1 + i].push({ edge, i, x });
  }));
  items.forEach((row) => row.sort((a, b) => a.x - b.x));
  const size = (node) => open.has(node.id)
    ? { w: Math.max(node.w, node.inner.w + 2 * PAD), h: HEAD + PAD + node.inner.layers * (OP_H + OP_GAP) - OP_GAP }
    : { w: node.w, h: NODE_H };
  let tops = [], heights = [], extent = { left: 0, right: 0, bottom: 0 };

  function place() {
    // Opened blocks push what stands beside them away from their middle, and lower rows down.
    extent = { left: Infinity, right: -Infinity, bottom: 0 };
    let y = 0;
    items.forEach((row, layer) => {
      let shift = 0;
      const at = row.map((item) => {
        const extra = item.node ? size(item.node).w - item.node.w : 0;
        const x = item.x + shift + extra / 2;
        shift += extra;
        return x;
      });
      const height = Math.max(NODE_H, ...row.map((item) => item.node ? size(item.node).h : 0));
      row.forEach((item, i) => {
        const x = at[i] - shift / 2;
        if (item.node) {
          const { w, h } = size(item.node);
          Object.assign(item.node, { cx: x, top: y, width: w, height: h });
          extent.left = Math.min(extent.left, x - w / 2);
          extent.right = Math.max(extent.right, x + w / 2);
        } else {
          (item.edge.at ??= [])[item.i] = x;
        }
      });
      tops[layer] = y;
      heights[layer] = height;
      y += height + ROW_GAP;
    });
    extent.bottom = y - ROW_GAP;
  }

  function line(from, to, points) {
    // from, to: {x, y}; points: {x, top, bottom} of the layers that the edge passes through
    let { x, y } = from, d = `M${x} ${y}`;
    const curve = (x2, y2) => {
      const middle = (y + y2) / 2;
      d += Math.abs(x - x2) < 0.5 ? `L${x2} ${y2}` : `C${x} ${middle} ${x2} ${middle} ${x2} ${y2}`;
      x = x2; y = y2;
    };
    for (const point of points) {
      curve(point.x, point.top);
      curve(point.x, point.bottom);
    }
    curve(to.x, to.y - 4);
    return d;
  }

  function path(edge) {
    const from = nodes[edge.s], to = nodes[edge.d];
    return line({ x: from.cx, y: from.top + from.height }, { x: to.cx, y: to.top }, edge.bends.map((_, i) => {
      const layer = from.layer + 1 + i;
      return { x: edge.at[i], top: tops[layer], bottom: tops[layer] + heights[layer] };
    }));
  }

  // --- drawing ---------------------------------------------------------------------------------

  const canvas = svg("svg", { role: "group", "aria-label": "Graph of the model; arrow keys move along it" });
  const arrow = svg("marker", { id: "arrow", viewBox: "0 0 8 8", refX: 4, refY: 4, markerWidth: 7, markerHeight: 7, orient: "auto", markerUnits: "userSpaceOnUse" });
  arrow.append(svg("path", { d: "M0 0L8 4L0 8z", class: "arrow" }));
  const definitions = svg("defs");
  definitions.append(arrow);
  const world = svg("g");
  canvas.append(definitions, world);
  graph.prepend(canvas);

  const view = { k: 1, x: 0, y: 0 };
  let selected = null; // { node, op } : op is an index, or null for the whole node
  let hits = null; // matching ops and nodes while searching
  let elements = new Map(); // "n3" and "o17" to their groups

  function box(group, refused, key, attributes) {
    const made = svg("g", {
      class: `node ${colour(group)}${refused ? " refused" : ""}`, "data-key": key, role: "button", tabindex: -1, ...attributes,
    });
    elements.set(key, made);
    return made;
  }

  function label(made, left, middle, width, title, sub, group, refused) {
    if (group !== undefined) {
      made.append(svg("text", { class: "letter", x: left + 10, y: middle + 4 }, letter(group)));
    }
    const x = left + (group !== undefined ? 26 : 12);
    const room = width - (group !== undefined ? 32 : 20) - (refused ? 14 : 0);
    made.append(svg("text", { x, y: sub ? middle - 3 : middle + 4 }, clip(title, room)));
    if (sub) made.append(svg("text", { class: "sub", x, y: middle + 13 }, clip(sub, room * 1.12)));
    if (refused) made.append(svg("text", { class: "mark", x: left + width - 8, y: middle + 5 }, "!"));
  }

  function drawNode(node) {
    const left = node.cx - node.width / 2, isOpen = open.has(node.id);
    const made = box(node.group, node.refused, `n${node.id}`, { "aria-label": node.title });
    made.append(svg("title", {}, node.title));
    const corner = node.kind === "value" ? node.height / 2 : 6;
    made.append(svg("rect", { class: "box", x: left, y: node.top, width: node.width, height: node.height, rx: corner }));
    if (node.kind === "value") {
      made.classList.add("value");
      label(made, left, node.top + node.height / 2, node.width, node.label, node.sub);
      return made;
    }
    const stripe = isOpen ? HEAD - 8 : node.height;
    made.append(svg("path", { class: "stripe", d: `M${left + 6} ${node.top}h14v${stripe}h-14a6 6 0 0 1 -6 -6v${12 - stripe}a6 6 0 0 1 6 -6z` }));
    if (!isOpen) {
      label(made, left, node.top + node.height / 2, node.width, node.label, node.sub, node.group, node.refused);
      return made;
    }
    made.classList.add("open");
    made.setAttribute("aria-expanded", "true");
    label(made, left, node.top + 12, node.width, node.label, "", node.group, node.refused);
    const inner = node.inner, x0 = node.cx - inner.w / 2, y0 = node.top + HEAD;
    const at = (i) => ({ x: x0 + inner.x[i], y: y0 + inner.layer[i] * (OP_H + OP_GAP) });
    for (const edge of inner.edges) {
      const from = at(edge.s), to = at(edge.d);
      const d = line({ x: from.x, y: from.y + OP_H }, to, edge.bends.map((x, i) => {
        const top = y0 + (inner.layer[edge.s] + 1 + i) * (OP_H + OP_GAP);
        return { x: x0 + x, top, bottom: top + OP_H };
      }));
      made.append(svg("path", { class: "edge", "marker-end": "url(#arrow)", d }));
    }
    node.ops.forEach((index, i) => {
      const op = data.ops[index], { x, y } = at(i);
      const small = box(op.group, op.refused, `o${index}`, { "aria-label": `${op.op_type} ${op.id}` });
      small.append(svg("title", {}, `${op.op_type} ${op.id}`));
      small.append(svg("rect", { class: "box", x: x - inner.op_w / 2, y, width: inner.op_w, height: OP_H, rx: 5 }));
      small.append(svg("path", { class: "stripe", d: `M${x - inner.op_w / 2 + 5} ${y}h15v${OP_H}h-15a5 5 0 0 1 -5 -5v${10 - OP_H}a5 5 0 0 1 5 -5z` }));
      label(small, x - inner.op_w / 2, y + OP_H / 2, inner.op_w, op.op_type, "", op.group, op.refused);
      made.append(small);
    });
    return made;
  }

  function draw() {
    place();
    elements = new Map();
    const lines = svg("g", { "aria-hidden": "true" }), boxes = svg("g");
    for (const edge of data.edges) {
      edge.line = svg("path", { class: edge.bends.length > 3 ? "edge far" : "edge", d: path(edge), "marker-end": "url(#arrow)" });
      lines.append(edge.line);
    }
    nodes.forEach((node) => boxes.append(drawNode(node)));
    world.replaceChildren(lines, boxes);
    mark();
    drawMap();
  }

  const keyOf = (choice) => choice.op !== null && open.has(choice.node.id) ? `o${choice.op}` : `n${choice.node.id}`;

  function mark() {
    world.classList.toggle("searching", hits !== null);
    for (const [key, made] of elements) {
      const hit = hits !== null && (hits.keys.has(key) || (key[0] === "n" && nodes[+key.slice(1)].ops.some((op) => hits.keys.has(`o${op}`))));
      made.classList.toggle("hit", hit);
      made.classList.toggle("selected", selected !== null && keyOf(selected) === key);
      made.setAttribute("tabindex", -1);
    }
    // One tab stop for the whole graph; arrow keys go on from there.
    const stop = elements.get(selected ? keyOf(selected) : "n0");
    if (stop) stop.setAttribute("tabindex", 0);
    for (const edge of data.edges) {
      edge.line.classList.toggle("near", selected !== null && (edge.s === selected.node.id || edge.d === selected.node.id));
    }
  }

  // --- moving and zooming ----------------------------------------------------------------------

  function move() {
    world.setAttribute("transform", `translate(${view.x} ${view.y}) scale(${view.k})`);
    drawMap();
  }
  function zoom(factor, px = graph.clientWidth / 2, py = graph.clientHeight / 2) {
    const k = Math.min(4, Math.max(0.02, view.k * factor));
    view.x = px - (px - view.x) * k / view.k;
    view.y = py - (py - view.y) * k / view.k;
    view.k = k;
    move();
  }
  function fit(whole) {
    const width = extent.right - extent.left, h = graph.clientHeight;
    const w = Math.max(graph.clientWidth - 170, graph.clientWidth / 2); // the rest is the map's
    const k = Math.min(1.1, (w - 40) / width, whole ? (h - 40) / extent.bottom : Infinity);
    view.k = Math.max(k, whole ? 0.02 : 0.55);
    view.x = w / 2 - view.k * (extent.left + extent.right) / 2;
    view.y = whole ? Math.max(20, (h - view.k * extent.bottom) / 2) : 20;
    if (!whole && k < 0.55) view.x = w / 2 - view.k * nodes[0].cx; // too wide: start at the first input
    move();
  }
  function show(key) {
    const made = elements.get(key);
    if (!made) return;
    const frame = graph.getBoundingClientRect(), at = made.querySelector(".box").getBoundingClientRect();
    const margin = 40;
    if (at.left < frame.left + margin || at.right > frame.right - margin) view.x += frame.left + frame.width / 2 - (at.left + at.right) / 2;
    if (at.top < frame.top + margin || at.bottom > frame.bottom - margin) view.y += frame.top + frame.height / 2 - (at.top + Math.min(at.bottom, at.top + frame.height / 2)) / 2;
    move();
  }

  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    const frame = graph.getBoundingClientRect();
    if (event.ctrlKey || event.metaKey) zoom(Math.exp(-event.deltaY / 300), event.clientX - frame.left, event.clientY - frame.top);
    else {
      const unit = event.deltaMode === 1 ? 30 : 1;
      view.x -= (event.shiftKey ? event.deltaY : event.deltaX) * unit;
      view.y -= (event.shiftKey ? 0 : event.deltaY) * unit;
      move();
    }
  }, { passive: false });
  let drag = null;
  canvas.addEventListener("pointerdown", (event) => {
    drag = { x: event.clientX, y: event.clientY, moved: false, id: event.pointerId };
  });
  canvas.addEventListener("pointermove", (event) => {
    if (!drag || drag.id !== event.pointerId) return;
    const dx = event.clientX - drag.x, dy = event.clientY - drag.y;
    if (!drag.moved && Math.hypot(dx, dy) < 4) return;
    if (!drag.moved) { drag.moved = true; canvas.setPointerCapture(drag.id); canvas.classList.add("dragging"); }
    view.x += dx; view.y += dy; drag.x = event.clientX; drag.y = event.clientY;
    move();
  });
  let dragged = false;
  const drop = () => { dragged = drag !== null && drag.moved; drag = null; canvas.classList.remove("dragging"); };
  canvas.addEventListener("pointerup", drop);
  canvas.addEventListener("pointercancel", drop);

  function drawMap() {
    const width = extent.right - extent.left, room = graph.clientHeight - 20;
    const k = Math.min(150 / width, room / extent.bottom);
    const w = Math.max(24, Math.min(150, Math.round(width * k))), h = Math.round(extent.bottom * k);
    const visible = width * view.k > graph.clientWidth || extent.bottom * view.k > graph.clientHeight;
    map.hidden = !visible;
    if (!visible) return;
    const ratio = window.devicePixelRatio || 1;
    map.width = w * ratio; map.height = h * ratio;
    map.style.width = `${w}px`; map.style.height = `${h}px`;
    const pen = map.getContext("2d"), style = getComputedStyle(document.documentElement);
    pen.scale(ratio, ratio);
    const offset = (w - width * k) / 2;
    for (const node of nodes) {
      pen.fillStyle = style.getPropertyValue(node.kind === "value" || node.group === null ? "--none" : `--c${node.group % 8}`);
      pen.fillRect(offset + (node.cx - node.width / 2 - extent.left) * k, node.top * k, Math.max(1.5, node.width * k), Math.max(1, node.height * k));
    }
    pen.strokeStyle = style.getPropertyValue("--focus");
    pen.lineWidth = 1.5;
    const inside = (value, most) => Math.min(most - 1, Math.max(1, value));
    const left = inside(offset + (-view.x / view.k - extent.left) * k, w);
    const right = inside(offset + ((graph.clientWidth - view.x) / view.k - extent.left) * k, w);
    const top = inside(-view.y / view.k * k, h), bottom = inside((graph.clientHeight - view.y) / view.k * k, h);
    pen.strokeRect(left, top, right - left, bottom - top);
    map.jump = (event) => {
      view.x = graph.clientWidth / 2 - view.k * ((event.offsetX - offset) / k + extent.left);
      view.y = graph.clientHeight / 2 - view.k * event.offsetY / k;
      move();
    };
  }
  map.addEventListener("pointerdown", (event) => { map.setPointerCapture(event.pointerId); map.jump(event); });
  map.addEventListener("pointermove", (event) => { if (event.buttons) map.jump(event); });

  // --- selecting -------------------------------------------------------------------------------

  function toggle(node) {
    if (!node.inner) return;
    const before = { x: node.cx, y: node.top };
    if (!open.delete(node.id)) open.add(node.id);
    draw();
    view.x += (before.x - node.cx) * view.k; // the block stays where the eye is
    view.y += (before.y - node.top) * view.k;
    move();
  }
  function select(node, op = null, focus = true) {
    selected = node === null ? null : { node, op: op ?? (node.ops.length === 1 ? node.ops[0] : null) };
    if (selected && op !== null && node.inner && !open.has(node.id)) toggle(node);
    mark();
    fill();
    const at = !selected ? "" : `#${selected.op !== null ? `op=${encodeURIComponent(data.ops[selected.op].id)}` : `box=${selected.node.id}`}`;
    if (/^(file|https?):$/.test(location.protocol)) history.replaceState(null, "", at || location.pathname);
    if (selected) {
      show(keyOf(selected));
      if (focus) elements.get(keyOf(selected))?.focus({ preventScroll: true });
    }
  }
  const chosen = (target) => {
    const key = target.closest?.("[data-key]")?.dataset.key;
    if (!key) return null;
    return key[0] === "n" ? { node: nodes[+key.slice(1)], op: null } : { node: nodeOf.get(+key.slice(1)), op: +key.slice(1) };
  };
  canvas.addEventListener("click", (event) => {
    if (dragged) return;
    const choice = chosen(event.target);
    if (choice) select(choice.node, choice.op);
    else select(null);
  });
  canvas.addEventListener("dblclick", (event) => {
    const choice = chosen(event.target);
    if (choice && choice.op === null) { toggle(choice.node); select(choice.node); }
  });
  const nearest = (choices, x) => choices.reduce((best, node) => best === null || Math.abs(node.cx - x) < Math.abs(best.cx - x) ? node : best, null);
  canvas.addEventListener("keydown", (event) => {
    const choice = selected ?? { node: nodes[0], op: null };
    const { node, op } = choice, row = items[node.layer].filter((item) => item.node).map((item) => item.node);
    const inside = op !== null && open.has(node.id) && node.inner ? node.ops.indexOf(op) : -1;
    let next = null;
    if (event.key === "ArrowDown") {
      if (inside >= 0 && inside + 1 < node.ops.length) return event.preventDefault(), select(node, node.ops[inside + 1]);
      next = nearest(node.after.map((edge) => nodes[edge.d]), node.cx);
    } else if (event.key === "ArrowUp") {
      if (inside > 0) return event.preventDefault(), select(node, node.ops[inside - 1]);
      next = inside === 0 ? node : nearest(node.before.map((edge) => nodes[edge.s]), node.cx);
    } else if (event.key === "ArrowRight") next = row[row.indexOf(node) + 1] ?? null;
    else if (event.key === "ArrowLeft") next = row[row.indexOf(node) - 1] ?? null;
    else if (event.key === "Home") next = nodes[0];
    else if (event.key === "End") next = nodes[nodes.length - 1];
    else if (event.key === "Enter" || event.key === " ") {
      event.preventDefault();
      if (inside < 0 && node.inner) {
        if (open.has(node.id)) { toggle(node); select(node); } else select(node, node.ops[0]);
      } else select(node, op);
      return;
    } else return;
    event.preventDefault();
    if (next) select(next);
  });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.tagName === "INPUT";
    if (event.key === "Escape") { if (search.value) { search.value = ""; find(); } else select(null); }
    else if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    else if (event.key === "/") { event.preventDefault(); search.focus(); }
    else if (event.key === "+" || event.key === "=") zoom(1.25);
    else if (event.key === "-") zoom(0.8);
    else if (event.key === "0") fit(true);
  });

  // --- searching -------------------------------------------------------------------------------

  const search = document.getElementById("search"), tally = document.getElementById("hits");
  function find() {
    const words = search.value.trim().toLowerCase().split(/\s+/).filter(Boolean);
    if (!words.length) { hits = null; tally.textContent = ""; mark(); return; }
    const list = [], keys = new Set();
    const matches = (...texts) => { const text = texts.join("\n").toLowerCase(); return words.every((word) => text.includes(word)); };
    nodes.forEach((node) => {
      const own = node.kind !== "op" && matches(node.label, node.title);
      if (own) { keys.add(`n${node.id}`); list.push({ node, op: null }); }
      node.ops.forEach((index) => {
        const op = data.ops[index];
        if (matches(op.id, op.op_type, ...op.inputs.map((v) => v.name), ...op.outputs.map((v) => v.name))) {
          keys.add(`o${index}`);
          list.push({ node, op: index });
        }
      });
    });
    hits = { list, keys, at: -1 };
    tally.textContent = list.length === 1 ? "1 match" : `${list.length} matches`;
    mark();
  }
  search.addEventListener("input", find);
  search.addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || !hits?.list.length) return;
    event.preventDefault();
    hits.at = (hits.at + (event.shiftKey ? -1 : 1) + hits.list.length) % hits.list.length;
    tally.textContent = `${hits.at + 1} of ${hits.list.length}`;
    const { node, op } = hits.list[hits.at];
    select(node, node.inner ? op : null, false);
  });

  function searchFor(text) {
    search.value = text;
    find();
    search.focus();
  }
  const describe = details({
    data, nodes, nodeOf, colour, letter, select, searchFor, isOpen: (node) => open.has(node.id), toggle: (node) => { toggle(node); select(node); },
  });
  function fill() {
    panel.replaceChildren(...describe(selected));
    panel.scrollTop = 0;
  }

  // --- start -----------------------------------------------------------------------------------

  const act = (id, action) => document.getElementById(id).addEventListener("click", action);
  act("in", () => zoom(1.25));
  act("out", () => zoom(0.8));
  act("fit", () => fit(true));
  act("top", () => fit(false));
  act("expand", () => {
    const all = nodes.filter((node) => node.inner);
    if (open.size) open.clear(); else all.forEach((node) => open.add(node.id));
    draw();
    move();
  });
  window.addEventListener("resize", drawMap);
  window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawMap);
  function follow() {
    // #op=… and #box=… are links to an op and to a box
    const [kind, value] = location.hash.slice(1).split("=");
    let node = null, op = null;
    if (kind === "op") {
      op = data.ops.findIndex((one) => one.id === decodeURIComponent(value));
      node = nodeOf.get(op) ?? null;
    } else if (kind === "box") node = nodes[Number(value)] ?? null;
    if (node) select(node, op !== null && node.inner ? op : null, false);
  }
  window.addEventListener("hashchange", follow);
  draw();
  fit(false);
  fill();
  follow();
})();
