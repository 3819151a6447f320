"use strict";
// Fills the page from the events of /events: hello, history, estimate, health, picture.
// Nothing from outside becomes markup: texts are set as text.

const VERSION = "PAGE_VERSION";
const SPAN_MS = 300000, POINT_MS = 500, GAP_MS = 2000, STALE_MS = 2000, NUMBERS_MS = 250;
const RETRY_MS = 1000, SILENT_MS = 15000;
const COLORS = {
  angry: "#ee6a5f", disgust: "#9bbf5b", fear: "#a68be8", happy: "#f5c04e", sad: "#62a5e6",
  surprise: "#f0924f", neutral: "#b9c4d0",
};
const byId = (id) => document.getElementById(id);
const capitalise = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const percent = (share) => `${Math.round(100 * share)} %`;

let labels = [];
let points = [];  // {at, label, row}
let budgetMs = 0, withPicture = false, frameSize = null, seen = [1, 1];
let estimate = null, estimateAt = 0, numbersAt = 0, heardAt = 0, events = null;

function colorOf(label) {
  if (label in COLORS) return COLORS[label];
  const number = labels.indexOf(label);
  return number < 0 ? "#8a96a3" : `hsl(${(number * 137.5) % 360} 55% 60%)`;
}

function makeRow(name, color) {
  const row = document.createElement("div"), title = document.createElement("span");
  const track = document.createElement("div"), fill = document.createElement("div");
  const number = document.createElement("span");
  row.className = "row";
  row.dataset.name = name;
  title.className = "name";
  if (color) {
    const swatch = document.createElement("span");
    swatch.className = "swatch";
    swatch.style.background = color;
    title.append(swatch);
  }
  title.append(capitalise(name));
  track.className = "track";
  fill.className = "fill";
  track.append(fill);
  number.className = "number";
  row.append(title, track, number);
  return row;
}

function setLabels(names) {
  if (names.length === labels.length && names.every((name, n) => name === labels[n])) return;
  labels = names;
  points = [];
  byId("shares").classList.toggle("many", names.length > 12);
  byId("shares").replaceChildren(...names.map((name) => makeRow(name, colorOf(name))));
}

function fillRow(row, share, numbers, color) {
  row.querySelector(".fill").style.width = `${100 * share}%`;
  row.querySelector(".fill").style.background = color || "";
  row.classList.toggle("top", Boolean(color));
  if (numbers) row.querySelector(".number").textContent = percent(share);
}

function showEstimate(now) {
  const fresh = estimate !== null && now - estimateAt <= STALE_MS;
  const shares = fresh ? estimate.probabilities : {};
  const label = fresh ? estimate.label : null;
  const some = Object.keys(shares).length > 0;
  const headline = !fresh ? "Waiting" : label ? capitalise(label) : some ? "Not sure" : "No face or voice";
  const changed = byId("label").textContent !== headline;
  const numbers = changed || now - numbersAt >= NUMBERS_MS;
  byId("label").textContent = headline;
  byId("label").style.setProperty("--letters", Math.max(8, headline.length));
  byId("label").classList.toggle("message", !label);
  for (const row of byId("shares").children) {
    const name = row.dataset.name;
    fillRow(row, shares[name] || 0, numbers, name === label ? colorOf(name) : "");
  }
  for (const row of byId("weights").children) {
    fillRow(row, (some && estimate.modalities[row.dataset.name]) || 0, numbers, "");
  }
  if (numbers) {
    numbersAt = now;
    byId("confidence").textContent = label ? percent(estimate.confidence) : "";
    byId("latency").textContent = fresh ? `${estimate.latency_ms.toFixed(1)} of ${budgetMs} ms` : "–";
    byId("level").textContent = fresh ? estimate.level : "–";
    document.body.dataset.index = fresh ? estimate.index : "";
  }
  if (!withPicture) showBoxes(fresh ? estimate.faces : []);
}

function showBoxes(faces) {
  for (const face of faces) {
    const [x, y, side] = face.box;
    seen = [Math.max(seen[0], x + side), Math.max(seen[1], y + side)];
  }
  const [width, height] = frameSize || seen;
  byId("frame").style.aspectRatio = `${width} / ${height}`;
  byId("boxes").replaceChildren(...faces.map((face, number) => {
    const box = document.createElement("div"), text = document.createElement("span");
    const [x, y, side] = face.box;
    box.className = number ? "box" : "box main";
    box.dataset.id = face.id;
    box.style.left = `${100 * x / width}%`;
    box.style.top = `${100 * y / height}%`;
    box.style.width = `${100 * side / width}%`;
    box.style.height = `${100 * side / height}%`;
    box.style.borderColor = face.label ? colorOf(face.label) : "#8a96a3";
    text.textContent = face.label ? `${capitalise(face.label)} ${percent(face.confidence)}` : "Not sure";
    box.append(text);
    return box;
  }));
}

function showPicture(picture) {
  frameSize = [picture.width, picture.height];
  byId("picture").src = `data:image/jpeg;base64,${picture.jpeg}`;
  byId("picture").hidden = false;
  byId("picture").dataset.time = picture.t_ns;
  showBoxes(picture.faces);
}

function clearView() {
  byId("picture").hidden = true;
  byId("picture").removeAttribute("src");
  byId("boxes").replaceChildren();
}

function showHealth(health) {
  const lost = health.drops.frames || 0;
  const demo = health.source === "demo";
  byId("demo").hidden = !demo;
  byId("source").textContent = demo ? "a drawn face and voice, no camera" : health.source;
  byId("percentiles").textContent = ["p50", "p99", "max"]
    .map((name) => health[`latency_${name}_ms`].toFixed(1)).join(" / ") + " ms";
  byId("rate").textContent = `${health.fps.toFixed(1)} a second`;
  byId("lost").textContent = String(lost);
  if (health.frame) frameSize = health.frame;
  byId("faults").replaceChildren(...health.faults.map((fault) => {
    const item = document.createElement("li");
    item.textContent = capitalise(fault);
    return item;
  }));
}

function addPoint(now) {
  const last = points[points.length - 1];
  if (last && now - last.at < POINT_MS) return;
  points.push({at: now, label: estimate.label, row: Object.values(estimate.probabilities)});
  while (points.length && now - points[0].at > SPAN_MS) points.shift();
}

function drawPlot(now) {
  const canvas = byId("plot"), scale = window.devicePixelRatio || 1;
  const width = Math.round(canvas.clientWidth * scale), height = Math.round(canvas.clientHeight * scale);
  if (canvas.width !== width || canvas.height !== height) [canvas.width, canvas.height] = [width, height];
  const context = canvas.getContext("2d");
  context.clearRect(0, 0, width, height);
  const toX = (at) => width * (1 - (now - at) / SPAN_MS);
  let begin = 0;
  for (let end = 1; end <= points.length; end++) {
    const before = points[end - 1], after = points[end];
    if (after && after.row.length && before.row.length && after.at - before.at < GAP_MS) continue;
    if (before.row.length) drawPart(context, points.slice(begin, end), toX, height);
    begin = end;
  }
}

// Stacks the labels' shares, the first label at the bottom.
function drawPart(context, part, toX, height) {
  const sums = part.map(() => 0);
  labels.forEach((label, number) => {
    context.beginPath();
    part.forEach((point, n) => context.lineTo(toX(point.at), height * (1 - sums[n])));
    part.forEach((point, n) => { sums[n] += point.row[number] || 0; });
    for (let n = part.length - 1; n >= 0; n--) {
      context.lineTo(toX(part[n].at) + (n === part.length - 1 ? 1 : 0), height * (1 - sums[n]));
    }
    context.fillStyle = colorOf(label);
    context.fill();
  });
}

function setState(text, live) {
  if (byId("state").textContent !== text) byId("state").textContent = text;
  byId("state").classList.toggle("live", live);
}

const HANDLERS = {
  hello(hello) {
    if (hello.version !== VERSION) { location.reload(); return; }
    budgetMs = hello.budget_ms;
    withPicture = hello.picture;
    frameSize = null;
    clearView();
    byId("picture-note").textContent = withPicture
      ? "The camera's image is sent to this page (web.picture is on)."
      : "The camera's image is not sent: only the faces' places (web.picture is off).";
    byId("sent").textContent = withPicture
      ? "Estimates and the camera's image are sent to this page; sound is not."
      : "Estimates are sent to this page; no image and no sound is.";
  },
  history(history) {
    if (history.labels.length) setLabels(history.labels);
    const now = Date.now();
    const sent = history.points.map(([age, label, row]) => ({at: now - 1000 * age, label, row}));
    if (sent.length) points = [...points.filter((point) => point.at < sent[0].at), ...sent];
  },
  estimate(newest) {
    const now = Date.now(), names = Object.keys(newest.probabilities);
    if (names.length) setLabels(names);
    estimate = newest;
    estimateAt = now;
    addPoint(now);
    showEstimate(now);
  },
  health: showHealth,
  picture: showPicture,
};

function connect() {
  const source = new EventSource("events");
  events = source;
  heardAt = Date.now();
  for (const [name, handle] of Object.entries(HANDLERS)) {
    source.addEventListener(name, (event) => {
      heardAt = Date.now();
      handle(JSON.parse(event.data));
    });
  }
  source.onerror = retry;
}

function retry() {
  if (events === null) return;
  events.close();
  events = null;
  estimate = null;
  clearView();
  setTimeout(connect, RETRY_MS);
}

function refresh() {
  const now = Date.now();
  if (events !== null && now - heardAt > SILENT_MS) retry();
  if (now - estimateAt > STALE_MS || estimate === null) {
    showEstimate(now);
    clearView();
    setState(events === null || events.readyState !== EventSource.OPEN
      ? "No connection: the program has ended, or web.max_clients pages are open" : "No estimates", false);
  } else {
    setState("Live", true);
  }
  drawPlot(now);
}

byId("weights").replaceChildren(...["face", "voice"].map((name) => makeRow(name, "")));
connect();
setInterval(refresh, POINT_MS);
