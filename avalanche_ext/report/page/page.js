"use strict";
(() => {
  const tip = document.getElementById("tip");

  function showTip(text, x, y) {
    tip.textContent = text;
    tip.hidden = false;
    const box = tip.getBoundingClientRect();
    tip.style.left = `${Math.max(4, Math.min(x + 14, innerWidth - box.width - 8))}px`;
    tip.style.top = `${y + 18 + box.height > innerHeight ? y - box.height - 8 : y + 14}px`;
  }

  function hideTip() {
    tip.hidden = true;
  }

  // Theme: automatic, then the other one than the system's, then the system's.
  const theme = document.getElementById("theme");
  const isDark = () => matchMedia("(prefers-color-scheme: dark)").matches;
  const remembered = {
    get value() { try { return localStorage.getItem("theme"); } catch { return null; } },
    set value(name) { try { localStorage.setItem("theme", name); } catch { /* not allowed here */ } },
  };

  function setTheme(name) {
    if (name === "light" || name === "dark") document.documentElement.dataset.theme = name;
    else delete document.documentElement.dataset.theme;
    theme.textContent = `theme: ${document.documentElement.dataset.theme ?? "automatic"}`;
  }

  theme.addEventListener("click", () => {
    const order = isDark() ? ["automatic", "light", "dark"] : ["automatic", "dark", "light"];
    const now = document.documentElement.dataset.theme ?? "automatic";
    const next = order[(order.indexOf(now) + 1) % order.length];
    remembered.value = next;
    setTheme(next);
  });
  setTheme(remembered.value);

  // Tables: sorted by a click on a heading, undefined numbers last; filtered by a part of the row.
  function sortKey(cell) {
    const text = cell.textContent;
    if (!cell.classList.contains("n")) return text;
    const found = text.match(/[-+]?\d+(\.\d+)?(e[-+]?\d+)?/);
    if (!found) return null;
    return Number(found[0]) - (text.startsWith("<") ? 1e-9 : 0);
  }

  function compare(a, b, sign) {
    if (a === null || b === null) return (a === null) - (b === null);
    const order = typeof a === "number" ? a - b : a.localeCompare(b, undefined, { numeric: true });
    return sign * order;
  }

  for (const box of document.querySelectorAll(".sortable")) {
    const body = box.querySelector("tbody");
    const headings = [...box.querySelectorAll("thead th")];
    headings.forEach((heading, column) => {
      heading.querySelector("button").addEventListener("click", () => {
        // Of numbers the largest come first, of names the first of the alphabet.
        const first = heading.classList.contains("n") ? "descending" : "ascending";
        const other = first === "descending" ? "ascending" : "descending";
        const order = heading.getAttribute("aria-sort") === first ? other : first;
        for (const each of headings) each.removeAttribute("aria-sort");
        heading.setAttribute("aria-sort", order);
        const sign = order === "ascending" ? 1 : -1;
        const rows = [...body.rows].map((row) => [sortKey(row.cells[column]), row]);
        rows.sort(([a], [b]) => compare(a, b, sign));
        body.append(...rows.map(([, row]) => row));
      });
    });
    const filter = box.querySelector("input");
    filter?.addEventListener("input", () => {
      const wanted = filter.value.trim().toLowerCase();
      let shown = 0;
      for (const row of body.rows) {
        row.hidden = !row.textContent.toLowerCase().includes(wanted);
        shown += !row.hidden;
      }
      box.querySelector("output").textContent = wanted ? `${shown} of ${body.rows.length} rows` : "";
    });
  }

  // Paper shows what is folded away on the screen.
  let folded = [];
  addEventListener("beforeprint", () => {
    folded = [...document.querySelectorAll("details:not([open])")];
    for (const each of folded) each.open = true;
  });
  addEventListener("afterprint", () => {
    for (const each of folded) each.open = false;
  });

  // Pictures: the value of the point nearest to the pointer, or of the next one by the arrow keys.
  for (const figure of document.querySelectorAll(".picture")) {
    const script = figure.querySelector(".points");
    if (!script) continue;
    const points = JSON.parse(script.textContent);
    const plot = figure.querySelector(".plot");
    const svg = plot.querySelector("svg");
    const mark = document.createElementNS(svg.namespaceURI, "circle");
    mark.setAttribute("class", "mark");
    mark.setAttribute("r", 5);
    let current = -1;

    const scale = () => svg.getBoundingClientRect().width / svg.viewBox.baseVal.width;

    function select(index) {
      current = index;
      const [x, y, text] = points[index];
      mark.setAttribute("cx", x);
      mark.setAttribute("cy", y);
      svg.append(mark);
      const box = svg.getBoundingClientRect();
      showTip(text, box.left + x * scale(), box.top + y * scale());
    }

    function unselect() {
      mark.remove();
      hideTip();
    }

    plot.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      const x = (event.clientX - box.left) / scale();
      const y = (event.clientY - box.top) / scale();
      let nearest = -1;
      let least = 16 ** 2;
      points.forEach(([px, py], index) => {
        const distance = (px - x) ** 2 + (py - y) ** 2;
        if (distance < least) [nearest, least] = [index, distance];
      });
      if (nearest < 0) unselect();
      else select(nearest);
    });
    plot.addEventListener("pointerleave", unselect);
    plot.addEventListener("blur", unselect);
    plot.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
      if (!step) return;
      event.preventDefault();
      select((current + step + points.length) % points.length);
    });
  }

  // Transfer matrices: a row at a time by the slider, and the cell under the pointer.
  for (const stream of document.querySelectorAll(".stream")) {
    const { methods, rows, shades } = JSON.parse(stream.querySelector(".data").textContent);
    const slider = stream.querySelector("input");
    const cells = [...stream.querySelectorAll(".heat tbody tr")].map((row) => [...row.querySelectorAll("td")]);
    const length = rows[0].length - 1;
    const when = (i) => (i ? `after experience ${i}` : "untrained");
    const text = (method, i, j) =>
      `${methods[method]}, ${when(i)}, on experience ${j + 1}: ${(rows[method][i][j] / 1000).toFixed(3)}`;

    function show() {
      const i = Number(slider.value);
      stream.querySelector("output").textContent = i ? `${when(i)} of ${length}` : when(i);
      slider.setAttribute("aria-valuetext", when(i));
      cells.forEach((row, method) => row.forEach((cell, j) => {
        const value = rows[method][i][j] / 1000;
        cell.textContent = value.toFixed(3);
        cell.style.background = shades[Math.round(value * (shades.length - 1))];
        cell.style.color = value > 0.55 ? "black" : "white";
        cell.classList.toggle("later", j >= i);
      }));
    }

    slider.addEventListener("input", show);
    show();
    stream.querySelector(".heat").addEventListener("pointermove", (event) => {
      const cell = event.target.closest("td");
      if (!cell) return hideTip();
      const method = cell.parentElement.sectionRowIndex;
      showTip(text(method, Number(slider.value), cell.cellIndex - 1), event.clientX, event.clientY);
    });
    stream.querySelector(".heat").addEventListener("pointerleave", hideTip);

    for (const figure of stream.querySelectorAll(".multiples figure")) {
      const svg = figure.querySelector("svg");
      svg.addEventListener("pointermove", (event) => {
        const box = svg.getBoundingClientRect();
        const j = Math.floor(((event.clientX - box.left) / box.width) * length);
        const y = ((event.clientY - box.top) / box.height) * (length + 1.25);
        const i = y < 1 ? 0 : Math.floor(y - 0.25);
        if (j < 0 || j >= length || i > length) return hideTip();
        showTip(text(Number(figure.dataset.method), i, j), event.clientX, event.clientY);
      });
      svg.addEventListener("pointerleave", hideTip);
    }
  }
})();
