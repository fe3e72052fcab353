(function () {
  "use strict";
  var root = document.documentElement, said = document.querySelector(".said");
  root.classList.add("js");
  function all(selector, within) { return Array.prototype.slice.call((within || document).querySelectorAll(selector)); }
  function make(tag, attributes, text) {
    var made = document.createElement(tag);
    Object.keys(attributes || {}).forEach(function (name) { made.setAttribute(name, attributes[name]); });
    if (text) { made.textContent = text; }
    return made;
  }
  function tell(words) { said.textContent = words; said.classList.add("on"); clearTimeout(tell.timer); tell.timer = setTimeout(function () { said.classList.remove("on"); }, 1800); }
  function remember(hash) { try { history.replaceState(null, "", "#" + hash); } catch (error) { /* a frame may forbid it */ } }
  function save(name, url) { var link = make("a", { href: url, download: name }); document.body.appendChild(link); link.click(); link.remove(); }

  // Tables: sort by a click on a column's title, copy as CSV or Markdown.
  function value(row, column) {
    var cell = row.children[column], raw = cell.getAttribute("data-value") || cell.getAttribute("data-sort"), number = Number(raw);
    if (!cell.textContent || cell.classList.contains("missing") || cell.hasAttribute("data-missing")) { return null; }
    return raw && !isNaN(number) ? number : (raw || cell.textContent).toLowerCase();
  }
  function sort(head, order, quiet) {
    var table = head.closest("table"), column = Array.prototype.indexOf.call(head.parentNode.children, head), flip = order === "descending" ? -1 : 1;
    all("thead th", table).forEach(function (other) { other.setAttribute("aria-sort", other === head ? order : "none"); });
    all("tbody", table).forEach(function (body) {
      var rows = all("tr", body).map(function (row, place) { return { row: row, key: value(row, column), place: place }; });
      rows.sort(function (a, b) {
        if (a.key === null || b.key === null) { return (a.key === null) - (b.key === null) || a.place - b.place; }
        return (a.key < b.key ? -flip : a.key > b.key ? flip : 0) || a.place - b.place;
      });
      rows.forEach(function (one) { body.appendChild(one.row); });
    });
    if (!quiet) { remember(table.closest("figure").id + "~" + column + "~" + order); }
  }
  all("table.sortable thead th").forEach(function (head) {
    var button = make("button", { type: "button" });
    while (head.firstChild) { button.appendChild(head.firstChild); }
    head.appendChild(button);
    if (!head.hasAttribute("aria-sort")) { head.setAttribute("aria-sort", "none"); }
    button.addEventListener("click", function () {
      var now = head.getAttribute("aria-sort"), first = head.classList.contains("num") ? "descending" : "ascending";
      sort(head, now === "none" ? first : now === "ascending" ? "descending" : "ascending");
    });
  });
  function words(cell) {
    var found = all(".val, .sub", cell).map(function (part) { return part.textContent; });
    return (found.length ? found.join(" ") : cell.textContent).replace(/\s+/g, " ").trim();
  }
  function title(head) { return all("span, small", head).map(function (part) { return part.textContent; }).join(" ").trim(); }
  function shown(table) { return all("tbody tr", table).filter(function (row) { return !row.hidden; }); }
  function markdown(table) {
    var heads = all("thead th", table), clean = function (text) { return text.replace(/\|/g, "\\|"); };
    var lines = [heads.map(function (head) { return clean(title(head)); }), heads.map(function (head) { return head.classList.contains("num") ? "---:" : "---"; })];
    shown(table).forEach(function (row) { lines.push(Array.prototype.map.call(row.children, function (cell) { return clean(words(cell)); })); });
    return lines.map(function (line) { return "| " + line.join(" | ") + " |"; }).join("\n") + "\n";
  }
  function csv(table) {
    var rows = shown(table), heads = all("thead th", table).map(title);
    var bounded = heads.map(function (_, column) { return rows.some(function (row) { return row.children[column].hasAttribute("data-low"); }); });
    var wide = function (cells, low, high) { var line = []; cells.forEach(function (cell, column) { line.push(cell); if (bounded[column]) { line.push(low(column), high(column)); } }); return line; };
    var lines = [wide(heads, function (column) { return heads[column] + " low"; }, function (column) { return heads[column] + " high"; })];
    rows.forEach(function (row) {
      var bound = function (name) { return function (column) { return row.children[column].getAttribute(name) || ""; }; };
      lines.push(wide(Array.prototype.map.call(row.children, function (cell) {
        if (cell.tagName === "TH") { return (cell.querySelector(".val") || cell).textContent; }
        return cell.classList.contains("missing") || cell.hasAttribute("data-missing") ? "" : cell.getAttribute("data-value") || words(cell);
      }), bound("data-low"), bound("data-high")));
    });
    return lines.map(function (line) { return line.map(function (cell) { return /[",\n]/.test(cell) ? '"' + cell.replace(/"/g, '""') + '"' : cell; }).join(","); }).join("\n") + "\n";
  }
  function copy(text, what) {
    function by_hand() {
      var area = make("textarea"); area.value = text; document.body.appendChild(area); area.select();
      tell(document.execCommand("copy") ? what + " copied" : "The browser does not allow copying"); area.remove();
    }
    if (navigator.clipboard && window.isSecureContext) { navigator.clipboard.writeText(text).then(function () { tell(what + " copied"); }, by_hand); } else { by_hand(); }
  }
  function button(bar, label, hint, act) { var made = make("button", { type: "button", title: hint }, label); made.addEventListener("click", act); bar.appendChild(made); }
  all("figure.table").forEach(function (figure) {
    var bar = make("span", { "class": "take" }), table = figure.querySelector("table");
    button(bar, "CSV", "Copy this table as CSV", function () { copy(csv(table), "Table as CSV"); });
    button(bar, "Markdown", "Copy this table as Markdown", function () { copy(markdown(table), "Table as Markdown"); });
    figure.querySelector("figcaption").appendChild(bar);
  });
  all("pre.command").forEach(function (line) {
    var bar = make("span", { "class": "take" }), text = line.textContent;
    button(bar, "Copy", "Copy the command", function () { copy(text, "Command"); });
    line.appendChild(bar);
  });

  // Plots: a PNG of twice the size, in the colours of the page.
  function png(figure) {
    var svg = figure.querySelector(".plot svg"), box = svg.viewBox.baseVal, style = getComputedStyle(root), clone = svg.cloneNode(true);
    clone.setAttribute("width", box.width * 3); clone.setAttribute("height", box.height * 3);
    clone.setAttribute("font-family", getComputedStyle(document.body).fontFamily.replace(/"/g, "'"));
    var text = new XMLSerializer().serializeToString(clone).replace(/var\((--[\w-]+)\)/g, function (_, name) { return style.getPropertyValue(name).trim(); });
    var image = new Image();
    image.onload = function () {
      var canvas = make("canvas", { width: image.width, height: image.height }), pen = canvas.getContext("2d");
      pen.fillStyle = style.getPropertyValue("--card").trim(); pen.fillRect(0, 0, canvas.width, canvas.height); pen.drawImage(image, 0, 0);
      save(figure.id + ".png", canvas.toDataURL("image/png")); tell("PNG saved");
    };
    image.onerror = function () { tell("The browser could not draw the plot"); };
    image.src = "data:image/svg+xml;charset=utf-8," + encodeURIComponent(text);
  }
  all("figure.plotted").forEach(function (figure) {
    var bar = make("span", { "class": "take" });
    button(bar, "PNG", "Save this plot as PNG", function () { png(figure); });
    figure.querySelector("figcaption").appendChild(bar);
  });

  // Filter: rows of tables and of the gallery, by words of the effect; all fields of a suite say the same.
  function filter(group, wanted, failed) {
    var words = wanted.trim().toLowerCase(), effects = 0;
    all(".tools", group).forEach(function (tools) {
      tools.querySelector("input[type=search]").value = wanted;
      var box = tools.querySelector("input[type=checkbox]"); if (box) { box.checked = failed; }
    });
    all("tr[data-words]", group).forEach(function (row) { row.hidden = row.getAttribute("data-words").toLowerCase().indexOf(words) < 0; });
    all(".effect", group).forEach(function (effect) {
      var cases = all(".case", effect), left = 0;
      cases.forEach(function (row) { row.hidden = failed && !row.hasAttribute("data-failed"); left += !row.hidden; });
      effect.hidden = (failed && !left) || effect.getAttribute("data-words").toLowerCase().indexOf(words) < 0;
      effects += !effect.hidden;
    });
    all(".none", group).forEach(function (none) { none.hidden = effects > 0; });
    all(".found", group).forEach(function (found) { found.textContent = words || failed ? effects + (effects === 1 ? " effect" : " effects") : ""; });
  }
  all(".tools").forEach(function (tools) {
    var field = tools.querySelector("input[type=search]"), box = tools.querySelector("input[type=checkbox]"), group = tools.closest(".group");
    var act = function () { var any = group.querySelector(".tools input[type=checkbox]"); filter(group, field.value, any ? any.checked : false); };
    tools.hidden = false;
    field.addEventListener("input", act);
    if (box) { box.addEventListener("change", act); }
  });

  // Matrices: what a cell stands for, from its row and column.
  document.addEventListener("mouseover", function (event) {
    var cell = event.target.closest && event.target.closest(".matrix td");
    if (!cell || cell.title || !cell.textContent) { return; }
    var head = cell.closest("table").tHead.rows[0].cells[cell.cellIndex];
    cell.title = cell.parentNode.cells[0].textContent.trim() + " → " + head.textContent.trim() + ": " + cell.textContent.trim();
  });

  // Viewer: two pictures of one row over each other.
  var viewer = document.querySelector(".viewer"), stage = viewer.querySelector(".stage"), row = null, state = {};
  var under = viewer.querySelector(".under"), over = viewer.querySelector(".over"), sides = [viewer.querySelector(".side-a"), viewer.querySelector(".side-b")];
  var seam = viewer.querySelector(".knob-seam input"), gain = viewer.querySelector(".knob-gain input"), step = viewer.querySelector(".knob-step input");
  function figures() { return all(".shot[data-who]", row).filter(function (figure) { return figure.querySelector("use"); }); }
  function steps() {
    var found = {}; figures().forEach(function (figure) { if (figure.hasAttribute("data-step")) { found[figure.getAttribute("data-step")] = true; } });
    return Object.keys(found).map(Number).sort(function (a, b) { return a - b; });
  }
  function pick(who) {
    var mine = figures().filter(function (figure) { return figure.getAttribute("data-who") === who; });
    return mine.filter(function (figure) { return Number(figure.getAttribute("data-step")) === state.step; })[0] || mine[mine.length - 1];
  }
  function draw() {
    var pair = [pick(state.left), pick(state.right)], images = [under, over], many = steps();
    pair.forEach(function (figure, side) {
      var line = figure.querySelector(".line"), at = figure.getAttribute("data-step");
      images[side].src = document.querySelector(figure.querySelector("use").getAttribute("href")).getAttribute("href");
      images[side].alt = figure.querySelector("title").textContent;
      sides[side].querySelector("select").value = figure.getAttribute("data-who");
      sides[side].querySelector("small").textContent = (many.length > 1 && at ? at + (at === "1" ? " step" : " steps") + (line ? ", " : "") : "") + (line ? line.textContent : "");
    });
    viewer.setAttribute("data-mode", state.mode);
    all(".modes button", viewer).forEach(function (one) { one.setAttribute("aria-pressed", String(one.getAttribute("data-mode") === state.mode)); });
    stage.style.setProperty("--seam", seam.value + "%");
    stage.style.setProperty("--gain", gain.value);
    stage.classList.toggle("flipped", state.flipped);
    viewer.querySelector(".knob-gain output").textContent = "×" + gain.value;
    viewer.querySelector(".knob-step").hidden = many.length < 2;
    step.max = Math.max(many.length - 1, 0); step.value = Math.max(many.indexOf(state.step), 0);
    viewer.querySelector(".knob-step output").textContent = state.step === null ? "" : String(state.step);
    remember([row.id, state.left, state.right, state.mode, state.step === null ? "" : state.step].map(encodeURIComponent).join("~"));
  }
  function open(where, left, right, mode, at) {
    row = where;
    var whos = []; figures().forEach(function (figure) { var who = figure.getAttribute("data-who"); if (whos.indexOf(who) < 0) { whos.push(who); } });
    if (whos.length < 2) { return; }
    var best = ["truth", "asked for", "source"].filter(function (who) { return whos.indexOf(who) >= 0 && who !== right; })[0];
    var many = steps();
    state = { left: whos.indexOf(left) >= 0 ? left : best || whos[0], right: whos.indexOf(right) >= 0 ? right : whos[whos.length - 1], mode: ["slider", "toggle", "difference"].indexOf(mode) >= 0 ? mode : "slider", flipped: false, step: many.indexOf(at) >= 0 ? at : many.length ? many[many.length - 1] : null };
    sides.forEach(function (side) {
      var choice = side.querySelector("select"); choice.textContent = "";
      whos.forEach(function (who) { choice.appendChild(make("option", { value: who }, who)); });
    });
    var effect = row.closest(".effect"), strip = row.closest(".strip");
    var name = strip ? strip.firstElementChild.textContent : [effect, row].map(function (part) { return part.querySelector(".self").textContent; }).join(", ");
    viewer.querySelector("#viewer-title").textContent = name;
    seam.value = 50; draw();
    if (!viewer.open) { viewer.showModal(); }
  }
  all(".row").forEach(function (one) {
    if (all("use", one).length < 2) { return; }
    var compare = make("button", { type: "button", "class": "compare" }, "Compare");
    compare.addEventListener("click", function () { open(one, null, null, "slider", null); });
    if (one.classList.contains("pics")) { one.appendChild(compare); } else { one.firstElementChild.appendChild(compare); }
  });
  document.addEventListener("click", function (event) {
    var picture = event.target.closest && event.target.closest(".row .pic");
    if (!picture) { return; }
    var figure = picture.closest(".shot"), who = figure.getAttribute("data-who"), at = figure.getAttribute("data-step");
    open(picture.closest(".row"), null, who === "truth" || who === "source" || who === "asked for" ? null : who, "slider", at === null ? null : Number(at));
  });
  sides.forEach(function (side, place) {
    side.querySelector("select").addEventListener("change", function (event) { state[place ? "right" : "left"] = event.target.value; draw(); });
  });
  all(".modes button", viewer).forEach(function (one) { one.addEventListener("click", function () { state.mode = one.getAttribute("data-mode"); draw(); }); });
  [seam, gain].forEach(function (knob) { knob.addEventListener("input", draw); });
  step.addEventListener("input", function () { state.step = steps()[Number(step.value)]; draw(); });
  function flip() { state.flipped = !state.flipped; draw(); }
  viewer.querySelector(".flip").addEventListener("click", flip);
  viewer.querySelector(".close").addEventListener("click", function () { viewer.close(); });
  viewer.addEventListener("click", function (event) { if (event.target === viewer) { viewer.close(); } });
  viewer.addEventListener("close", function () { remember(row.id); });
  function drag(event) {
    if (state.mode !== "slider") { return; }
    var box = stage.getBoundingClientRect(); seam.value = Math.round(100 * (event.clientX - box.left) / box.width); draw();
  }
  stage.addEventListener("pointerdown", function (event) {
    if (state.mode === "toggle") { flip(); return; }
    stage.setPointerCapture(event.pointerId); drag(event);
  });
  stage.addEventListener("pointermove", function (event) { if (event.buttons) { drag(event); } });
  stage.addEventListener("keydown", function (event) {
    var move = { ArrowLeft: -5, ArrowRight: 5 }[event.key];
    if (state.mode === "slider" && move) { seam.value = Number(seam.value) + move; draw(); event.preventDefault(); }
    if (state.mode === "toggle" && (event.key === " " || event.key === "Enter")) { flip(); event.preventDefault(); }
  });

  // Permalinks: #id, #table~column~order, #row~left~right~mode~step.
  function arrive() {
    var parts = location.hash.slice(1).split("~").map(function (part) { try { return decodeURIComponent(part); } catch (error) { return part; } });
    var target = parts[0] && document.getElementById(parts[0]), strip = target && target.closest(".strip");
    all(".strip.shown").forEach(function (other) { if (other !== strip) { other.classList.remove("shown"); } });
    if (!target) { return; }
    if (strip) { strip.classList.add("shown"); }
    for (var outer = target; outer; outer = outer.parentElement) { if (outer.tagName === "DETAILS") { outer.open = true; } }
    if (target.hidden || target.closest("[hidden]")) { filter(target.closest(".group"), "", false); }
    if (parts.length > 1 || target.closest("details")) { (strip || target).scrollIntoView(); }
    if (parts.length === 3 && target.classList.contains("table")) {
      var head = target.querySelectorAll("thead th")[Number(parts[1])];
      if (head && head.closest(".sortable") && (parts[2] === "ascending" || parts[2] === "descending")) { sort(head, parts[2], true); }
    }
    if (parts.length === 5 && target.classList.contains("row")) { open(target, parts[1], parts[2], parts[3], parts[4] === "" ? null : Number(parts[4])); }
  }
  window.addEventListener("hashchange", arrive);
  arrive();
})();
