"use strict";

const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const PLOT = { left: 10, right: 630, top: 10, bottom: 165 };
const scores = []; // {score, is_ood} of every image so far
let token = "";
let about = null;
let turn = Promise.resolve(); // one upload at a time, in the order in which they were dropped

function element(parent, name, attributes = {}, text = "") {
  const made = parent.namespaceURI === SVG
    ? document.createElementNS(SVG, name) : document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.textContent = text; // never as HTML: names are the files' own
  parent.append(made);
  return made;
}

async function ask(address, options = {}) {
  const headers = token ? { Authorization: `Bearer ${token}` } : {};
  const answer = await fetch(address, { ...options, headers });
  const content = await answer.json();
  if (answer.ok) return content;
  const error = new Error(content.detail);
  error.status = answer.status;
  throw error;
}

function say(text) {
  byId("status").textContent = text;
}

async function load() {
  try {
    about = await ask("/v1/detector");
  } catch (error) {
    byId("access").hidden = error.status !== 401;
    byId("about").textContent = error.status === 401
      ? "This service needs its token." : `No detector: ${error.message}`;
    return;
  }
  byId("access").hidden = true;
  const [channels, ...sides] = about.image_shape;
  byId("about").textContent = `The detector sees images of ${sides.join(" × ")} pixels, `
    + `${channels === 1 ? "grey" : "colour"}. Of images that belong, it calls `
    + `${(100 * about.target_fpr).toPrecision(2)} % out of distribution.`;
  byId("validation").hidden = false;
  draw();
}

function draw() {
  const svg = byId("histogram");
  svg.replaceChildren();
  const { edges, counts } = about.validation;
  const all = [edges[0], edges.at(-1), ...scores.map((one) => one.score)];
  if (about.threshold !== null) all.push(about.threshold);
  const low = Math.min(...all), high = Math.max(...all), most = Math.max(...counts);
  const x = (v) => PLOT.left + (PLOT.right - PLOT.left) * (v - low) / (high - low || 1);
  const y = (count) => PLOT.bottom - (PLOT.bottom - PLOT.top) * count / most;
  counts.forEach((count, k) => element(svg, "rect", {
    class: "bar", x: x(edges[k]), width: Math.max(0.5, x(edges[k + 1]) - x(edges[k]) - 0.5),
    y: y(count), height: PLOT.bottom - y(count),
  }));
  element(svg, "line", { class: "axis", x1: PLOT.left, x2: PLOT.right, y1: PLOT.bottom, y2: PLOT.bottom });
  element(svg, "text", { x: PLOT.left, y: 196 }, low.toPrecision(3));
  element(svg, "text", { x: PLOT.right, y: 196, "text-anchor": "end" }, high.toPrecision(3));
  if (about.threshold !== null) {
    const at = x(about.threshold);
    element(svg, "line", { class: "threshold", x1: at, x2: at, y1: PLOT.top, y2: PLOT.bottom });
  }
  for (const one of scores) {
    const at = x(one.score), d = `M${at},${PLOT.bottom + 2} l6,12 h-12 z`;
    element(svg, "path", { class: one.is_ood ? "mark ood" : "mark", d });
  }
  const total = counts.reduce((sum, count) => sum + count, 0);
  byId("caption").textContent = `Scores of ${total} validation images, from ${edges[0].toPrecision(3)} to `
    + `${edges.at(-1).toPrecision(3)}; ` + (about.threshold === null
    ? "no score is called out of distribution." : `beyond ${about.threshold.toPrecision(3)}, `
    + "the dashed line, an image is called out of distribution.")
    + (scores.length ? " Triangles are the images below." : "");
}

function show(file, found) {
  const row = document.createElement("tr");
  const picture = element(row, "td");
  if (/^image\/(png|jpeg|bmp)$/.test(file.type) && !found.error) {
    const address = URL.createObjectURL(file);
    element(picture, "img", { src: address, alt: "" }).addEventListener(
      "load", () => URL.revokeObjectURL(address));
  }
  const map = element(row, "td");
  if (found.map) {
    const alt = `where ${found.name} is unusual`;
    element(map, "img", { src: `data:image/png;base64,${found.map}`, alt });
  }
  element(row, "th", { scope: "row" }, found.name);
  if (found.error) {
    element(row, "td", { colspan: 4, class: "mistake" }, found.error);
  } else {
    const verdict = found.is_ood ? "out of distribution" : "belongs";
    element(element(row, "td"), "span", { class: found.is_ood ? "verdict ood" : "verdict" }, verdict);
    element(row, "td", { class: "number" }, found.score.toPrecision(4));
    element(row, "td", { class: "number" }, found.p_value.toPrecision(3));
    element(row, "td", {}, found.loudest);
    scores.push(found);
  }
  byId("rows").prepend(row);
  byId("results").hidden = false;
}

// As many files a request as it may have; one that is refused as a whole shows why at each file.
function parts(files) {
  const found = [[]];
  let size = 0;
  for (const file of files) {
    const room = size + file.size < 0.9e6 * about.max_mb && found.at(-1).length < about.max_files;
    if (!room && found.at(-1).length) {
      found.push([]);
      size = 0;
    }
    found.at(-1).push(file);
    size += file.size;
  }
  return found;
}

async function send(files) {
  if (!about || !files.length) return;
  let unusual = 0, unreadable = 0;
  for (const part of parts(files)) {
    say(`Scoring ${part.length} of ${files.length} images…`);
    const body = new FormData();
    for (const file of part) body.append("files", file);
    let answers;
    try {
      answers = (await ask("/v1/score?maps=1", { method: "POST", body })).files;
    } catch (error) {
      answers = part.map((file) => ({ name: file.name, error: error.message }));
    }
    answers.forEach((answer, k) => show(part[k], answer));
    unusual += answers.filter((answer) => answer.is_ood).length;
    unreadable += answers.filter((answer) => answer.error).length;
  }
  draw();
  say(`${files.length} images: ${unusual} out of distribution, `
    + `${files.length - unusual - unreadable} belong, ${unreadable} without a score.`);
}

function enqueue(files) {
  const taken = [...files];
  turn = turn.then(() => send(taken));
}

byId("access").addEventListener("submit", (event) => {
  event.preventDefault();
  token = byId("token").value.trim();
  load();
});
byId("files").addEventListener("change", (event) => {
  enqueue(event.target.files);
  event.target.value = "";
});
for (const kind of ["dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault(); // a browser would open the file in place of the page
    byId("drop").classList.toggle("over", kind === "dragover");
    if (kind === "drop") enqueue(event.dataTransfer.files);
  });
}
load();
