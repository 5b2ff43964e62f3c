"use strict";
// Draws the figures of the page from the numbers in it, and makes each figure's table and CSV from the same numbers.
(() => {
  const { widthIn, shortened, inLines } = fitting;
  const root = document.documentElement;
  const drawn = [], tables = [];
  const phone = window.matchMedia("(max-width: 559.98px)"), narrow = () => phone.matches;

  // Colours

  function colours() {
    const style = getComputedStyle(root);
    return (name) => style.getPropertyValue(name).trim();
  }
  function faded(hex, alpha) {
    const parts = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    return `rgba(${parts.join(",")},${alpha})`;
  }
  /** The value with every "$name" and "$name/alpha" in it replaced by a colour of the page. */
  function themed(value, colour) {
    if (typeof value === "string" && /^\$[a-z]+\d?(\/[\d.]+)?$/.test(value)) {
      const [name, alpha] = value.slice(1).split("/");
      return alpha === undefined ? colour(`--${name}`) : faded(colour(`--${name}`), alpha);
    }
    if (Array.isArray(value)) return value.map((one) => themed(one, colour));
    if (value !== null && typeof value === "object")
      return Object.fromEntries(Object.entries(value).map(([key, one]) => [key, themed(one, colour)]));
    return value;
  }

  // From numbers to Plotly

  const unpacked = (column) => (Array.isArray(column) ? column : column.at.map((place) => column.of[place]));
  function put(target, path, value) {
    const names = path.split(".");
    const last = names.pop();
    for (const name of names) target = target[name] ??= {};
    target[last] = value;
  }
  function merged(under, over) {
    const found = { ...under };
    for (const [key, value] of Object.entries(over)) {
      const both = value !== null && typeof value === "object" && !Array.isArray(value) && typeof found[key] === "object";
      found[key] = both ? merged(found[key], value) : value;
    }
    return found;
  }
  function tracesOf(figure, panel, colour) {
    return panel.traces.map((trace) => {
      const one = themed(trace.style, colour);
      for (const [path, name] of Object.entries(trace.take))
        put(one, path, figure.columns[name].slice(trace.rows[0], trace.rows[1]));
      one.visible = !figure.off.has(trace.name);
      return one;
    });
  }
  function layoutOf(figure, panel, colour, height, width) {
    const ink = colour("--soft"), size = narrow() ? 11 : 12.5;
    const axis = {
      gridcolor: colour("--grid"), linecolor: colour("--rule"), zerolinecolor: colour("--rule"), tickcolor: colour("--rule"),
      automargin: true, showline: true, ticks: "outside", ticklen: 4, exponentformat: "power", minexponent: 4,
      title: { standoff: 10, font: { size: size + 0.5 } }, tickfont: { size },
    };
    const base = {
      margin: { l: 12, r: 12, t: 10, b: 12 }, showlegend: false, hovermode: "closest", dragmode: narrow() ? false : "zoom",
      paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { family: colour("--sans"), color: ink, size },
      xaxis: axis, yaxis: axis,
      hoverlabel: {
        bgcolor: colour("--card"), bordercolor: colour("--quiet"), align: "left", namelength: -1,
        font: { color: colour("--ink"), family: colour("--sans"), size: 12.5 },
      },
    };
    const found = merged(merged(base, themed(figure.layout, colour)), { ...themed(panel.layout, colour), height });
    const titled = widthIn(size + 0.5, colour("--sans")), named = widthIn(size, colour("--sans"));
    let beside = 0;
    if (found.yaxis.ticktext && !found.yaxis.title.text) {
      found.yaxis.ticktext = found.yaxis.ticktext.map((name) => shortened(name, narrow() ? width - 30 : width / 2, named));
      if (narrow()) namesAbove(found, ink);
      else beside = Math.max(...found.yaxis.ticktext.map(named));
    }
    // A title is centred on the axes, whose margins at its two ends differ by 85 pixels at most, and by names beside the rows.
    for (const [one, room] of [[found.xaxis, width - 85 - beside], [found.yaxis, height - 85]])
      if (one.title.text) one.title.text = inLines(one.title.text, room, titled);
    return found;
  }
  /** Names beside the rows would take a phone's whole width: there they stand above them. Plotly's own labels inside the axes
   * move the range of the other axis, and with some names it never comes to an end. */
  function namesAbove(layout, ink) {
    const { tickvals, ticktext } = layout.yaxis;
    layout.yaxis.showticklabels = false;
    layout.annotations = [
      ...(layout.annotations ?? []),
      ...ticktext.map((text, row) => ({
        text, x: 0, xref: "paper", xanchor: "left", y: tickvals[row], yref: "y", yanchor: "bottom", yshift: 3, showarrow: false, font: { color: ink },
      })),
    ];
  }
  function draw(entry) {
    const { figure, place } = entry;
    const panel = figure.panels[figure.at], colour = colours();
    const options = { responsive: true, displayModeBar: false, displaylogo: false, typesetMath: false, scrollZoom: false, showTips: false };
    const rows = panel.layout.yaxis?.ticktext && !panel.layout.yaxis.title ? 1.3 : 1;
    const height = (panel.layout.height ?? Number(place.dataset.height)) * (narrow() ? rows : 1);
    place.style.minHeight = `${height}px`;
    return Plotly.react(place, tracesOf(figure, panel, colour), layoutOf(figure, panel, colour, height, place.clientWidth), options);
  }

  // Legend and panels

  const SVG = "http://www.w3.org/2000/svg";
  const SHAPES = {
    circle: "M6 2a4 4 0 1 0 .01 0z", square: "M2.5 2.5h7v7h-7z", diamond: "M6 1l5 5-5 5-5-5z", "triangle-up": "M6 1.5l5 8.5H1z",
    x: "M3 1.5L6 4.5l3-3L10.500 3l-3 3 3 3L9 10.500l-3-3-3 3L1.500 9l3-3-3-3z", "triangle-down": "M6 10.500L1 2h10z",
    cross: "M4.500 1h3v3.500H11v3H7.500V11h-3V7.500H1v-3h3.500z", star: "M6 .5l1.600 3.700 4 .4-3 2.700.9 3.900L6 9.100l-3.500 2.100.9-3.900-3-2.700 4-.4z",
  };
  function sample(style, colour) {
    const picture = document.createElementNS(SVG, "svg");
    const shape = document.createElementNS(SVG, "path");
    picture.setAttribute("width", "14"); picture.setAttribute("height", "12"); picture.setAttribute("viewBox", "0 0 12 12");
    picture.setAttribute("aria-hidden", "true");
    const lines = (style.mode ?? "").includes("lines") && !(style.mode ?? "").includes("markers");
    const paint = themed((style.fill ? style.fillcolor : lines ? style.line?.color : style.marker?.color) ?? "$quiet", colour);
    shape.setAttribute("d", style.fill ? "M0 1h12v10H0z" : lines ? "M0 4.500h12v3H0z" : (SHAPES[(style.marker?.symbol ?? "circle").replace("-open", "")] ?? SHAPES.circle));
    shape.setAttribute("fill", typeof paint === "string" ? paint : "currentColor");
    picture.append(shape);
    return picture;
  }
  function controls(entry) {
    const { figure, box } = entry;
    const colour = colours();
    const parts = [];
    if (figure.panels.length > 1) parts.push(chooser(figure.choice, figure.panels.map((panel) => panel.label), figure.at));
    const waiting = [];
    const listed = new Map();
    for (const trace of figure.panels[figure.at].traces)
      if (trace.listed && !listed.has(trace.name)) listed.set(trace.name, trace.style);
    if (listed.size > 1)
      for (const [name, style] of listed) {
        const chip = document.createElement("button");
        chip.type = "button"; chip.className = "chip";
        chip.setAttribute("aria-pressed", String(!figure.off.has(name)));
        chip.append(sample(style, colour), name);
        chip.addEventListener("click", () => {
          if (!figure.off.delete(name)) figure.off.add(name);
          chip.setAttribute("aria-pressed", String(!figure.off.has(name)));
          draw(entry);
        });
        (figure.waiting.has(name) ? waiting : parts).push(chip);
      }
    if (waiting.length) {
      const more = document.createElement("details"), summary = document.createElement("summary");
      more.className = "more-names"; more.open = figure.opened;
      summary.textContent = `${waiting.length} more`;
      more.addEventListener("toggle", () => { figure.opened = more.open; });
      more.append(summary, ...waiting);
      parts.push(more);
    }
    box.replaceChildren(...parts);
  }
  /** A box in which one of the labels is chosen, for everything on the page that has them. */
  function chooser(choice, labels, at) {
    const label = document.createElement("label"), select = document.createElement("select");
    labels.forEach((text, number) => select.append(new Option(text, text, false, number === at)));
    select.addEventListener("change", () => choose(choice, select.value));
    label.append(choice, select);
    return label;
  }
  function show(parts, at) {
    parts.bodies.forEach((body, number) => { body.hidden = number !== at; });
    parts.box.replaceChildren(chooser(parts.choice, parts.bodies.map((body) => body.dataset.label), at));
  }
  function choose(choice, label) {
    for (const parts of tables) {
      const at = parts.bodies.findIndex((body) => body.dataset.label === label);
      if (parts.choice === choice && at >= 0) show(parts, at);
    }
    for (const entry of drawn) {
      const number = entry.figure.panels.findIndex((panel) => panel.label === label);
      if (entry.figure.choice !== choice || number < 0) continue;
      entry.figure.at = number;
      controls(entry);
      draw(entry);
    }
  }

  // Numbers

  const ROWS = 400;
  const plain = (value) => (value === null || value === undefined ? "" : typeof value === "object" ? JSON.stringify(value) : String(value));
  /** A field of a CSV; a text that a spreadsheet would compute gets an apostrophe before it. */
  function field(value) {
    let text = plain(value);
    if (typeof value === "string" && /^[=+\-@\t\r]/.test(text)) text = `'${text}`;
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  }
  function numbers(entry) {
    const { figure, details } = entry;
    const box = details.querySelector(".numbers");
    if (box.childElementCount) return;
    const names = Object.keys(figure.heads);
    const count = figure.columns[names[0]].length;
    const lines = [names.map((name) => field(figure.heads[name])).join(",")];
    for (let row = 0; row < count; row++) lines.push(names.map((name) => field(figure.columns[name][row])).join(","));
    const link = document.createElement("a");
    link.className = "csv"; link.download = `${figure.name}.csv`; link.textContent = "download CSV";
    link.href = `data:text/csv;charset=utf-8,${encodeURIComponent(lines.join("\r\n"))}`;
    const table = document.createElement("table"), head = table.createTHead().insertRow(), body = table.createTBody();
    const numeric = new Set(names.filter((name) => figure.columns[name].every((one) => typeof one !== "string")));
    for (const name of names) {
      const cell = document.createElement("th");
      cell.scope = "col"; cell.textContent = figure.heads[name];
      if (numeric.has(name)) cell.className = "n";
      head.append(cell);
    }
    for (let row = 0; row < Math.min(count, ROWS); row++) {
      const line = body.insertRow();
      for (const name of names) {
        const cell = line.insertCell(), value = figure.columns[name][row];
        cell.textContent = value === null ? "–" : plain(value);
        if (numeric.has(name)) cell.className = "n";
        else cell.title = plain(value);
      }
    }
    const scroll = document.createElement("div");
    scroll.className = "scroll"; scroll.tabIndex = 0;
    scroll.append(table);
    box.append(link, scroll);
    if (count > ROWS) box.append(`The first ${ROWS} of ${count} rows; the CSV has all.`);
  }

  // The page

  function setTheme(dark) {
    root.dataset.theme = dark ? "dark" : "light";
    for (const button of document.querySelectorAll(".theme")) {
      button.textContent = dark ? "☀ Light" : "☾ Dark";
      button.setAttribute("aria-label", dark ? "Switch to the light theme" : "Switch to the dark theme");
    }
    for (const entry of drawn) { controls(entry); draw(entry); }
  }
  function watchSections() {
    const links = new Map([...document.querySelectorAll("nav a")].map((link) => [link.getAttribute("href").slice(1), link]));
    const seen = new Set();
    const watcher = new IntersectionObserver((changes) => {
      for (const change of changes) change.isIntersecting ? seen.add(change.target.id) : seen.delete(change.target.id);
      const current = [...links.keys()].find((id) => seen.has(id));
      for (const [id, link] of links) id === current ? link.setAttribute("aria-current", "true") : link.removeAttribute("aria-current");
    }, { rootMargin: "-64px 0px -55% 0px" });
    for (const section of document.querySelectorAll("section[id]")) watcher.observe(section);
  }

  const wish = window.matchMedia("(prefers-color-scheme: dark)");
  setTheme(wish.matches);
  wish.addEventListener("change", () => setTheme(wish.matches));
  phone.addEventListener("change", () => drawn.forEach(draw));
  for (const button of document.querySelectorAll(".theme")) button.addEventListener("click", () => setTheme(root.dataset.theme !== "dark"));
  const figures = [...document.querySelectorAll("figure.figure")].map((place) => {
    const figure = JSON.parse(place.querySelector('script[type="application/json"]').textContent);
    figure.columns = Object.fromEntries(Object.entries(figure.columns).map(([name, column]) => [name, unpacked(column)]));
    figure.at = figure.start;
    figure.opened = false;
    figure.waiting = new Set(figure.panels.flatMap((panel) => panel.traces.filter((trace) => trace.hidden).map((trace) => trace.name)));
    figure.off = new Set(figure.waiting);
    const entry = { figure, place: place.querySelector(".plot"), box: place.querySelector(".controls"), details: place.querySelector("details.data") };
    entry.details.addEventListener("toggle", () => entry.details.open && numbers(entry));
    drawn.push(entry);
    controls(entry);
    return draw(entry);
  });
  for (const place of document.querySelectorAll(".choices")) {
    const parts = { choice: place.dataset.choice, bodies: [...place.children], box: document.createElement("div") };
    parts.box.className = "controls";
    place.prepend(parts.box);
    tables.push(parts);
    show(parts, 0);
  }
  window.addEventListener("beforeprint", () => drawn.forEach((entry) => Plotly.Plots.resize(entry.place)));
  watchSections();
  Promise.all(figures).then(() => { root.dataset.ready = "true"; });
})();
