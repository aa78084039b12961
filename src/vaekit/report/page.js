// Tooltips for charts (nearest point) and sheets of tiles: hover, tap, or focus and arrow keys. Nothing is fetched.
(() => {
  const tip = document.getElementById("tip"), known = new WeakMap();
  let at = null, index = -1;

  function points(svg) {  // every hot point of a chart, read off the paths that draw it
    if (known.has(svg)) return known.get(svg);
    const found = [];
    for (const path of svg.querySelectorAll("[data-tip]")) {
      const each = path.dataset.each ? path.dataset.each.split("|") : [];
      let i = 0;
      for (const m of path.getAttribute("d").matchAll(/[ML](-?[\d.]+)[ ,](-?[\d.]+)/g)) {
        found.push([+m[1], +m[2], path.dataset.tip.replace("{}", each[i] ?? ""), path]);
        i++;
      }
    }
    known.set(svg, found);
    return found;
  }
  function nearest(svg, event) {
    const box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal, scale = view.width / box.width;
    const x = (event.clientX - box.left) * scale, y = (event.clientY - box.top) * scale;
    const by = svg.dataset.by === "x" ? 0.02 : 1, reach = (svg.dataset.by === "x" ? 30 : 14) * Math.max(scale, 1);
    let best = -1, least = reach * reach;
    points(svg).forEach(([px, py], i) => {
      const d = (px - x) ** 2 + by * (py - y) ** 2;
      if (d <= least) { least = d; best = i; }
    });
    return best;
  }
  function thumb(svg, i) {  // the picture of a point, off the sheet beside the chart
    const sheet = "thumbs" in svg.dataset && svg.closest("section").querySelector(".thumbs img");
    if (!sheet) return;
    const columns = +sheet.parentNode.dataset.columns, n = points(svg).length, rows = Math.ceil(n / columns);
    const wide = 64, tall = wide * (sheet.naturalHeight / rows) / (sheet.naturalWidth / Math.min(columns, n));
    const shown = document.createElement("i");
    shown.style.cssText = `width:${wide}px;height:${tall}px;background-size:${wide * Math.min(columns, n)}px ${tall * rows}px;` +
      `background-position:-${i % columns * wide}px -${Math.floor(i / columns) * tall}px`;
    shown.style.backgroundImage = `url(${sheet.src})`;
    tip.prepend(shown);
  }
  function place(text, left, top, svg, i) {
    tip.textContent = text;
    if (svg) thumb(svg, i);
    tip.hidden = false;
    const width = document.documentElement.clientWidth, own = tip.getBoundingClientRect();
    tip.style.left = Math.max(4, Math.min(left - own.width / 2, width - own.width - 4)) + scrollX + "px";
    tip.style.top = (top - own.height - 12 < 0 ? top + 16 : top - own.height - 12) + scrollY + "px";
  }
  function hide() {
    tip.hidden = true;
    document.querySelectorAll(".spot").forEach(s => s.remove());
    at = null; index = -1;
  }
  function show(svg, i) {
    const [x, y, text] = points(svg)[i], box = svg.getBoundingClientRect(), view = svg.viewBox.baseVal;
    hide();
    at = svg; index = i;
    const spot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    spot.setAttribute("class", "spot"); spot.setAttribute("cx", x); spot.setAttribute("cy", y); spot.setAttribute("r", 5);
    svg.append(spot);
    place(text, box.left + x * box.width / view.width, box.top + y * box.height / view.height, svg, i);
  }
  function tile(img, i) {
    const tips = JSON.parse(img.dataset.tips), columns = +img.dataset.columns, rows = Math.ceil(tips.length / columns);
    if (!tips[i]) return hide();
    const box = img.getBoundingClientRect();
    at = img; index = i;
    place(tips[i], box.left + (i % columns + .5) * box.width / columns, box.top + Math.floor(i / columns) * box.height / rows);
  }
  function look(event) {
    const svg = event.target.closest?.("svg[data-by]"), img = event.target.closest?.("img[data-tips]");
    if (svg) {
      const i = nearest(svg, event);
      if (i < 0) hide(); else show(svg, i);
    } else if (img) {
      const box = img.getBoundingClientRect(), columns = +img.dataset.columns;
      const rows = Math.ceil(JSON.parse(img.dataset.tips).length / columns);
      const c = Math.floor((event.clientX - box.left) / box.width * columns), r = Math.floor((event.clientY - box.top) / box.height * rows);
      tile(img, Math.max(0, r) * columns + Math.min(columns - 1, Math.max(0, c)));
    } else if (!tip.hidden) hide();
  }
  function light(event) {  // a legend's entry lights up what it names
    const item = event.target.closest?.("[data-key]");
    for (const svg of document.querySelectorAll("svg.dim")) {
      svg.classList.remove("dim");
      svg.querySelectorAll(".lit").forEach(e => e.classList.remove("lit"));
    }
    if (!item || event.type === "focusout") return;
    for (const svg of (item.closest("figure") ?? item.closest("section")).querySelectorAll("svg[data-by]")) {
      svg.classList.add("dim");
      svg.querySelectorAll(".k" + item.dataset.key).forEach(e => e.classList.add("lit"));
    }
  }
  document.addEventListener("pointermove", e => { if (e.pointerType !== "touch") look(e); });
  document.addEventListener("pointerdown", look);
  for (const kind of ["pointerover", "focusin", "focusout"]) document.addEventListener(kind, light);
  document.addEventListener("focusin", e => {
    if (e.target.matches("svg[data-by]") && points(e.target).length) { if (e.target.matches(":focus-visible")) show(e.target, 0); }
    else if (e.target.matches("img[data-tips]") && e.target.matches(":focus-visible")) tile(e.target, 0);
  });
  document.addEventListener("focusout", hide);
  document.addEventListener("keydown", e => {
    if (e.key === "Escape") return hide();
    const step = { ArrowRight: 1, ArrowLeft: -1, ArrowDown: +(at?.dataset.columns ?? 1), ArrowUp: -(at?.dataset.columns ?? 1) }[e.key];
    if (!step || !at || at !== document.activeElement) return;
    e.preventDefault();
    const n = at.matches("svg") ? points(at).length : JSON.parse(at.dataset.tips).length;
    (at.matches("svg") ? show : tile)(at, (index + step + n) % n);
  });
})();
