"use strict";
// Tables that sort by their headers and show what is asked for, histograms whose bars choose rows, pictures that open large.
// A cell with data-v holds a number, or nothing where that is empty; every other cell is text, and is searched.

const order = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
const folded = (text) => text.normalize("NFKC").toLowerCase();

function value(cell) {
  if (cell.dataset.v === undefined) return cell.textContent.trim();
  return cell.dataset.v === "" ? "" : Number(cell.dataset.v);
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : order.compare(a, b);
}

function finder(room) {
  const table = room.querySelector("table");
  const body = table.tBodies[0];
  const rows = [...body.rows]; // as they were given; equal rows stay in this order
  const heads = [...table.tHead.rows[0].cells];
  const search = room.querySelector("input[type=search]");
  const boxes = [...room.querySelectorAll("input[type=checkbox]")];
  const bars = [...room.querySelectorAll(".bar")];
  const all = room.querySelector(".all");
  const words_of = (row) => [...row.cells].filter((cell) => cell.dataset.v === undefined).map((cell) => cell.textContent);
  const texts = new Map(rows.map((row) => [row, folded(words_of(row).join("\n"))]));

  function sort(head) {
    const column = head.cellIndex;
    const down = head.getAttribute("aria-sort") === "ascending";
    for (const other of heads) other.removeAttribute("aria-sort");
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const keyed = rows.map((row) => [value(row.cells[column]), row]);
    keyed.sort(([a], [b]) => (a === "" || b === "" ? (a === "") - (b === "") : down ? compare(b, a) : compare(a, b)));
    body.append(...keyed.map(([, row]) => row)); // empty cells come last either way
  }

  function show() {
    const words = folded(search.value).split(/\s+/).filter(Boolean);
    const kinds = new Set(boxes.filter((box) => box.checked).map((box) => box.value));
    const pressed = bars.filter((bar) => bar.getAttribute("aria-pressed") === "true").map((bar) => bar.dataset);
    let shown = 0;
    for (const row of rows) {
      const in_bar = pressed.some(({ column, low, high }) => {
        const number = row.cells[column].dataset.v;
        return number !== "" && Number(low) <= Number(number) && Number(number) < Number(high);
      });
      row.hidden = !((!boxes.length || kinds.has(row.dataset.kind)) && (!pressed.length || in_bar) &&
        words.every((word) => texts.get(row).includes(word)));
      shown += !row.hidden;
    }
    room.querySelector(".shown").textContent = `${shown} of ${rows.length} shown`;
    room.querySelector(".empty").hidden = shown > 0;
    room.querySelector(".histogram")?.classList.toggle("chosen", pressed.length > 0);
    all.hidden = shown === rows.length;
  }

  function press(bar) {
    bar.setAttribute("aria-pressed", String(bar.getAttribute("aria-pressed") !== "true"));
    show();
  }

  for (const head of heads) head.querySelector("button").addEventListener("click", () => sort(head));
  search.addEventListener("input", show);
  for (const box of boxes) box.addEventListener("change", show);
  for (const bar of bars) {
    bar.addEventListener("click", () => press(bar));
    bar.addEventListener("keydown", (event) => {
      if (event.key !== "Enter" && event.key !== " ") return;
      event.preventDefault();
      press(bar);
    });
  }
  all.addEventListener("click", () => {
    search.value = "";
    for (const box of boxes) box.checked = true;
    for (const bar of bars) bar.setAttribute("aria-pressed", "false");
    show();
    search.focus();
  });
  room.querySelector(".controls").hidden = false;
  show(); // a browser that comes back to a page has kept what was typed
  if (room.querySelector(".viewer")) viewer(room, body, heads);
}

function viewer(room, body, heads) {
  const dialog = room.querySelector(".viewer");
  const [back, on, close] = dialog.querySelectorAll("button");
  let row = null;

  const shown = () => [...body.rows].filter((one) => !one.hidden && one.querySelector(".thumb"));

  function open(next) {
    if (!next) return;
    row = next;
    const among = shown();
    const small = row.querySelector(".thumb img");
    const large = dialog.querySelector("img");
    [large.src, large.alt] = [small.src, small.alt];
    dialog.querySelector("header span").textContent = `${among.indexOf(row) + 1} of ${among.length}`;
    dialog.querySelector(".said").replaceChildren(...row.querySelector(".name").cloneNode(true).childNodes, figures());
    back.disabled = row === among[0];
    on.disabled = row === among.at(-1);
    if (!dialog.open) dialog.showModal();
  }

  function figures() {
    const list = document.createElement("dl");
    for (const head of heads) {
      const cell = row.cells[head.cellIndex];
      if (!cell.dataset.label || !cell.textContent) continue;
      for (const [tag, text] of [["dt", cell.dataset.label], ["dd", cell.textContent]]) {
        list.append(Object.assign(document.createElement(tag), { textContent: text }));
      }
    }
    return list;
  }

  function step(by) {
    const among = shown();
    open(among[among.indexOf(row) + by]);
  }

  body.addEventListener("click", (event) => {
    const thumb = event.target.closest(".thumb");
    if (thumb) open(thumb.closest("tr"));
  });
  back.addEventListener("click", () => step(-1));
  on.addEventListener("click", () => step(1));
  close.addEventListener("click", () => dialog.close());
  dialog.addEventListener("click", (event) => {
    if (event.target === dialog) dialog.close(); // beside it
  });
  dialog.addEventListener("close", () => row.querySelector(".thumb").focus());
  dialog.addEventListener("keydown", (event) => {
    const by = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!by) return;
    event.preventDefault();
    step(by);
  });
}

for (const room of document.querySelectorAll(".finder")) finder(room);
