// A result of keraunos: the scan, the label map over it, and the list of structures. niivue draws the volumes.
"use strict";

const { Niivue, SLICE_TYPE, SHOW_RENDER } = globalThis.niivue;
const element = (id) => document.getElementById(id);

const PLANES = {
  all: SLICE_TYPE.MULTIPLANAR,
  axial: SLICE_TYPE.AXIAL,
  coronal: SLICE_TYPE.CORONAL,
  sagittal: SLICE_TYPE.SAGITTAL,
  render: SLICE_TYPE.RENDER,
};
const AUTHORS = {
  llm: "written by the language model",
  stock: "the built-in sentence",
  user: "your own words",
};
// How much of the map covers the scan inside outlines, in percent.
const INSIDE = 10;
// Where the volume is cut open in depth: how far from the middle, azimuth, elevation.
const CUT = [0.12, 215, 25];

// Voxels that a key moves the crosshair by, to the right, the front and the top of the picture: what is left in it
// is the patient's right.
const STEPS = {
  ArrowLeft: [1, 0, 0],
  ArrowRight: [-1, 0, 0],
  ArrowUp: [0, 1, 0],
  ArrowDown: [0, -1, 0],
  PageUp: [0, 0, 1],
  PageDown: [0, 0, -1],
};

let result;
let viewer;
let chosen = null;

// ------------------------------------------------------------------ what is drawn

async function show() {
  viewer = new Niivue({
    isRadiologicalConvention: true,
    sagittalNoseLeft: true,
    showAllOrientationMarkers: true,
    multiplanarShowRender: SHOW_RENDER.ALWAYS,
    isColorbar: false,
    showLegend: false,
    dragAndDropEnabled: false,
    backColor: [0, 0, 0, 1],
    crosshairColor: [0.47, 0.78, 1, 0.7],
    crosshairWidthUnit: "mm",
    crosshairWidth: 0.6,
    fontColor: [1, 0.84, 0.35, 1],
    clipPlaneColor: [0, 0, 0, 0],
    multiplanarPadPixels: 6,
    loadingText: "",
    logLevel: "error",
  });
  await viewer.attachToCanvas(element("canvas"));
  if (!viewer.gl) {
    throw new Error("this browser has no WebGL 2");
  }
  viewer.onLocationChange = tell;
  const volumes = result.files.scans.map(([url, voxels], n) => ({
    url,
    urlImageData: voxels ?? "",
    name: url,
    opacity: n === 0 ? 1 : 0,
  }));
  volumes.push({ url: result.files.labels, name: result.files.labels, opacity: 0.5 });
  await viewer.loadVolumes(volumes);
  paint();
  viewer.setClipPlane(CUT);
}

const scans = () => viewer.volumes.slice(0, -1);
const map = () => viewer.volumes[viewer.volumes.length - 1];

// The colours of the map: all of them, or the chosen structure's alone.
function paint() {
  const colours = structuredClone(result.files.colours);
  if (element("alone").checked && chosen) {
    colours.A = colours.I.map((label) => (label === chosen.label ? 255 : 0));
  }
  map().setColormapLabel(colours);
  viewer.updateGLVolume();
}

function setOpacity() {
  viewer.setOpacity(viewer.volumes.length - 1, element("opacity").value / 100);
}

// Outlines are opaque; the slider is for what they enclose, and goes back where it was without them.
function setOutline() {
  const slider = element("opacity");
  const outlined = element("outline").checked;
  if (outlined) {
    slider.dataset.before = slider.value;
  }
  slider.value = outlined ? Math.min(slider.value, INSIDE) : slider.dataset.before;
  viewer.opts.atlasOutline = outlined ? 1 : 0;
  setOpacity();
}

function setScan() {
  const wanted = element("scan").selectedIndex;
  scans().forEach((_, n) => viewer.setOpacity(n, n === wanted ? 1 : 0));
}

function setPlane() {
  viewer.setSliceType(PLANES[document.querySelector("[name=plane]:checked").value]);
}

// Where the crosshair is, and what is there.
function tell({ mm, values }) {
  const place = Array.from(mm).slice(0, 3).map((at) => at.toFixed(1)).join(", ");
  const shown = values[Math.max(element("scan").selectedIndex, 0)];
  const label = values.length > 1 ? Math.round(values[values.length - 1].value) : 0;
  const found = result.structures.find((structure) => structure.label === label);
  const parts = [`${place} mm`];
  if (shown && Number.isFinite(shown.value)) {
    parts.push(`intensity ${Number(shown.value.toPrecision(4))}`);
  }
  if (found) {
    parts.push(found.name);
  }
  element("place").textContent = parts.join("  ·  ");
}

// ------------------------------------------------------------------ the list

const millilitres = (value) => (value === null ? "–" : value < 10 ? value.toFixed(2) : value.toFixed(1));
const share = (value) => (value === null ? "–" : value.toFixed(2));

function make(tag, properties = {}, ...children) {
  const made = Object.assign(document.createElement(tag), properties);
  made.append(...children);
  return made;
}

function swatch([r, g, b]) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  const square = document.createElementNS("http://www.w3.org/2000/svg", "rect");
  svg.setAttribute("class", "swatch");
  svg.setAttribute("viewBox", "0 0 12 12");
  const attributes = { width: 12, height: 12, rx: 3, fill: `rgb(${r} ${g} ${b})` };
  Object.entries(attributes).forEach(([name, value]) => square.setAttribute(name, value));
  svg.append(square);
  return svg;
}

function list() {
  const rows = result.structures.map((structure) => {
    const button = make(
      "button",
      { type: "button", className: structure.centre ? "" : "absent" },
      make("span", { className: "name" }, swatch(structure.colour), make("span", { textContent: structure.name, title: structure.name })),
      make("span", { textContent: millilitres(structure.volume_ml) }),
      make("span", { textContent: share(structure.predicted_dice) }),
    );
    button.setAttribute("aria-pressed", "false");
    button.addEventListener("click", () => choose(structure));
    structure.button = button;
    return make("li", {}, button);
  });
  element("structures").append(...rows);
}

function choose(structure) {
  chosen?.button.setAttribute("aria-pressed", "false");
  chosen = structure;
  structure.button.setAttribute("aria-pressed", "true");
  structure.button.scrollIntoView({ block: "nearest" });
  detail(structure);
  if (element("alone").checked) {
    paint();
  }
  if (structure.centre) {
    viewer.scene.crosshairPos = viewer.mm2frac(structure.centre);
    viewer.createOnLocationChange();
    viewer.drawScene();
  }
}

function detail(structure) {
  const row = (name, value) => [make("dt", { textContent: name }), make("dd", { textContent: value })];
  const rows = [
    ...row("Volume", `${millilitres(structure.volume_ml)} ml`),
    ...row("Voxels in the map", structure.labelled_voxels.toLocaleString("en")),
    ...row("Predicted Dice", share(structure.predicted_dice)),
    ...row("Mean intensity", structure.mean_intensity === null ? "–" : Number(structure.mean_intensity.toPrecision(4))),
    ...row("Label", structure.label),
  ];
  const said = structure.instructions.map(({ modality, text, author }) =>
    make("blockquote", { textContent: text.replaceAll("<view>", "axial") }, make("footer", { textContent: `${AUTHORS[author] ?? author}, ${modality.toUpperCase()}` })),
  );
  const notes = [];
  if (!structure.present) {
    notes.push("Not found.");
  } else if (!structure.centre) {
    notes.push("The map shows its parts, which are more specific.");
  }
  if (structure.touches_border) {
    notes.push("Touches the border of the field of view.");
  }
  element("detail").replaceChildren(
    make("h2", {}, swatch(structure.colour), structure.name),
    make("dl", {}, ...rows),
    ...notes.map((note) => make("p", { className: "note", textContent: note })),
    ...said,
  );
  element("detail").hidden = false;
}

function filter() {
  const words = element("filter").value.toLowerCase().split(/\s+/);
  for (const { name, button } of result.structures) {
    button.parentElement.hidden = !words.every((word) => name.toLowerCase().includes(word));
  }
}

// The rows above or below the one that has the focus.
function move(step) {
  const buttons = [...element("structures").querySelectorAll("li:not([hidden]) button")];
  const at = buttons.indexOf(document.activeElement);
  const next = buttons[Math.min(Math.max(at + step, 0), buttons.length - 1)];
  next?.focus();
  next?.click();
}

// ------------------------------------------------------------------ words, keys

function describe() {
  document.title = `${result.title} – keraunos`;
  element("title").textContent = result.title;
  element("about").textContent = [...result.scans.map(({ name, modality }) => `${name} (${modality.toUpperCase()})`), result.version, result.adapter].join("  ·  ");
  element("disclaimer").textContent = result.disclaimer;
  element("scan").append(...result.scans.map(({ name, modality }) => make("option", { textContent: `${modality.toUpperCase()}  ${name}` })));
  element("scans").hidden = result.scans.length < 2;
  const { length } = result.warnings;
  if (length > 0) {
    element("warnings").hidden = false;
    element("warnings").querySelector("summary").textContent = length === 1 ? "1 warning" : `${length} warnings`;
    element("warnings").querySelector("ul").append(...result.warnings.map((text) => make("li", { textContent: text })));
  }
}

function press(event) {
  const typing = event.target.matches("input[type=search], select");
  const inList = event.target.closest("#structures");
  const fromFilter = event.target === element("filter");
  if ((inList || fromFilter) && ["ArrowDown", "ArrowUp"].includes(event.key)) {
    move(event.key === "ArrowDown" ? 1 : -1);
    event.preventDefault();
    return;
  }
  if (typing || event.ctrlKey || event.metaKey || event.altKey) {
    return;
  }
  const step = event.target === element("canvas") && STEPS[event.key];
  if (step) {
    viewer.moveCrosshairInVox(...step);
    event.preventDefault();
    return;
  }
  const planes = document.querySelectorAll("[name=plane]");
  const digit = planes[Number(event.key) - 1];
  const slider = element("opacity");
  if (digit) {
    digit.click();
  } else if (event.key === "/") {
    element("filter").focus();
  } else if (event.key === "[" || event.key === "]") {
    slider.value = Number(slider.value) + (event.key === "]" ? 5 : -5);
    setOpacity();
  } else if (event.key.toLowerCase() === "o") {
    element("outline").click();
  } else if (event.key.toLowerCase() === "x") {
    element("alone").click();
  } else {
    return;
  }
  event.preventDefault();
}

function listen() {
  element("tools").addEventListener("submit", (event) => event.preventDefault());
  document.querySelectorAll("[name=plane]").forEach((plane) => plane.addEventListener("change", setPlane));
  element("opacity").addEventListener("input", setOpacity);
  element("outline").addEventListener("change", setOutline);
  element("alone").addEventListener("change", paint);
  element("scan").addEventListener("change", setScan);
  element("filter").addEventListener("input", filter);
  document.addEventListener("keydown", press);
}

async function start() {
  const answer = await fetch("result.json");
  if (!answer.ok) {
    throw new Error(`the result cannot be read (${answer.status})`);
  }
  result = await answer.json();
  describe();
  list();
  await show();
  listen();
  const first = result.structures.find((structure) => structure.centre);
  if (first) {
    choose(first);
  }
  document.documentElement.dataset.state = "ready";
}

start().catch((error) => {
  element("problem").textContent = `This result cannot be shown: ${error.message ?? error}.`;
  element("problem").hidden = false;
  document.documentElement.dataset.state = "failed";
});
