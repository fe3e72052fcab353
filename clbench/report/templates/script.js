(function () {
  "use strict";
  document.documentElement.classList.add("js");
  function value(row, column) {
    var cell = row.children[column], raw = cell.getAttribute("data-sort"), number = parseFloat(raw);
    return raw !== null && raw !== "" && String(Number(raw)) !== "NaN" ? number : (raw || cell.textContent).toLowerCase();
  }
  function sort(head) {
    var table = head.closest("table"), column = Array.prototype.indexOf.call(head.parentNode.children, head);
    var down = head.getAttribute("aria-sort") !== "descending";
    table.querySelectorAll("th[aria-sort]").forEach(function (other) { other.removeAttribute("aria-sort"); });
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    Array.prototype.forEach.call(table.tBodies, function (body) {
      Array.prototype.slice.call(body.rows).sort(function (a, b) {
        var one = value(a, column), two = value(b, column), order = one < two ? -1 : one > two ? 1 : 0;
        return down ? -order : order;
      }).forEach(function (row) { body.appendChild(row); });
    });
  }
  document.querySelectorAll("table.sortable thead th").forEach(function (head) {
    head.setAttribute("data-sortable", "");
    head.tabIndex = 0;
    head.addEventListener("click", function () { sort(head); });
    head.addEventListener("keydown", function (event) {
      if (event.key === "Enter" || event.key === " ") { event.preventDefault(); sort(head); }
    });
  });
  var tools = document.querySelector(".tools");
  if (tools) {
    var words = tools.querySelector("input[type=search]"), failed = tools.querySelector("input[type=checkbox]");
    var filter = function () {
      var wanted = words.value.trim().toLowerCase();
      document.querySelectorAll(".effect").forEach(function (effect) {
        var shown = 0;
        effect.querySelectorAll(".case").forEach(function (row) {
          row.hidden = failed.checked && !row.hasAttribute("data-failed");
          if (!row.hidden) { shown += 1; }
        });
        effect.hidden = !shown || effect.getAttribute("data-words").toLowerCase().indexOf(wanted) < 0;
      });
    };
    tools.hidden = false;
    words.addEventListener("input", filter);
    failed.addEventListener("change", filter);
    window.addEventListener("hashchange", function () {
      var target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
      if (target && (target.hidden || target.closest("[hidden]"))) {
        words.value = ""; failed.checked = false; filter(); target.scrollIntoView();
      }
    });
  }
})();
