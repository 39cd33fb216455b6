// What the server pushes takes the place of what is shown; what the reader has set or opened stays.
(() => {
  const at = (id) => document.getElementById(id);
  const content = at("content");

  function put(target, html) {
    const opened = new Set([...target.querySelectorAll("details[open] > summary")].map((s) => s.textContent));
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    fresh.content.querySelectorAll("details").forEach((details) => {
      if (opened.has(details.querySelector("summary").textContent)) details.open = true;
    });
    for (const plot of target.querySelectorAll(".plot")) { // drawn again in place: zoom and all
      const other = fresh.content.getElementById(plot.id);
      if (other) other.replaceWith(plot);
    }
    const picker = target.querySelector("#picker-box") && fresh.content.querySelector("#picker-box");
    if (picker) { // in the reader's hand: a slider that is moved in the page is let go
      for (const section of [...fresh.content.children]) {
        const old = target.querySelector(`#${CSS.escape(section.id)}`);
        if (!old) target.append(section);
        else if (section.id !== "picker") old.replaceWith(section);
        else refill(old, section);
      }
    } else {
      target.replaceChildren(fresh.content);
    }
  }
  const sorted = {}; // caption of a table -> the column that the reader sorted by, and which way
  document.addEventListener("click", (event) => {
    const head = event.target.closest(".scroll th");
    const table = head && head.closest("table");
    if (!table) return;
    sorted[table.getAttribute("aria-labelledby")] = [head.cellIndex, head.getAttribute("aria-sort")];
  });
  function sortAgain() {
    for (const [caption, [column, way]] of Object.entries(sorted)) {
      const head = document.querySelector(`table[aria-labelledby="${caption}"]`)?.tHead.rows[0].cells[column];
      for (let n = 0; head && n < 2 && head.getAttribute("aria-sort") !== way; n += 1) head.querySelector("button")?.click();
    }
  }
  function refill(old, section) {
    const isBox = (node) => node.id === "picker-box";
    const box = old.querySelector("#picker-box"), nodes = [...section.children], place = nodes.findIndex(isBox);
    [...old.children].filter((node) => node !== box).forEach((node) => node.remove());
    box.before(...nodes.slice(0, place));
    box.after(...nodes.slice(place + 1));
  }
  function link() { // run ids lead to their curves
    for (const cell of document.querySelectorAll("#runs td:last-child, #running td:first-child")) {
      const id = cell.textContent.trim();
      if (cell.querySelector("a") || !/^[0-9a-f]{8,}$/.test(id)) continue;
      const a = document.createElement("a");
      a.href = `?run=${id}`;
      a.textContent = id;
      cell.replaceChildren(a);
    }
  }
  const on = (source, name, act) => source.addEventListener(name, (event) => act(JSON.parse(event.data)));

  const source = new EventSource(`events${location.search}`);
  let last = {}; // state
  on(source, "state", (state) => {
    last = state;
    document.body.classList.remove("lost");
    document.body.dataset.state = state.state;
    at("headline").textContent = state.headline;
    at("summary").textContent = state.summary || "";
    at("machine").textContent = state.machine;
    at("progress").max = state.total || 1;
    at("progress").value = state.done || 0;
  });
  function changed() {
    link();
    document.dispatchEvent(new Event("changed"));
    sortAgain();
  }
  on(source, "running", (html) => { put(at("running"), html); changed(); });
  on(source, "groups", ({ titles, current }) => {
    const labels = Object.keys(titles);
    at("groups").hidden = !labels.length;
    const asked = current || labels[0];
    at("groups").replaceChildren(...labels.map((label) => {
      const a = document.createElement("a");
      a.href = `?group=${encodeURIComponent(label)}`;
      a.textContent = titles[label];
      if (label === asked) a.setAttribute("aria-current", "page");
      return a;
    }));
  });
  on(source, "content", (html) => {
    put(content, html);
    startPicker();
    const store = at("picker-store");
    if (store && store.value === "STORE") {
      store.value = content.dataset.place;
      store.dispatchEvent(new Event("input"));
    }
    changed();
  });
  source.addEventListener("error", () => {
    const isOver = ["finished", "stopped"].includes(last.state);
    document.body.classList.toggle("lost", !isOver);
    at("headline").textContent = isOver
      ? `${last.headline}. The page's server has ended with the sweep; python sweeps/watch.py STORE --serve PORT shows it again.`
      : "The page's server does not answer. This is what it said last; it is asked again.";
  });
})();
