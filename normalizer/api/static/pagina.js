// The live page: swaps in what the server renders again, and sends what a person does. No library, no third party.

import { ask, find, say, sendJson } from "./comum.js";

const table = find("#tabela");
const filters = find("#filtros");
let page = 1;
let busy = false;
let mark;  // stands for what the appointments were when the panel was last told
let stale = false;  // the table shows less than the panel knows
let refreshedAt = 0;

// Replace `old` by rendered HTML, and give the focus back to whoever had it, by id.
function swap(old, fresh) {
  const focused = old.contains(document.activeElement) ? document.activeElement.id : "";
  old.replaceWith(fresh);
  if (focused) document.getElementById(focused)?.focus();
}

function render(html) {
  const parsed = new DOMParser().parseFromString(html, "text/html");
  for (const fresh of parsed.querySelectorAll("[data-region]")) {
    const old = document.getElementById(fresh.id);
    for (const part of fresh.querySelectorAll("details[id]")) part.open = Boolean(document.getElementById(part.id)?.open);
    if (old && old.outerHTML !== fresh.outerHTML) swap(old, document.importNode(fresh, true));
  }
}

// -- live ------------------------------------------------------------------------------------------------------------

function follow() {
  const events = new EventSource("/pagina/eventos");
  events.addEventListener("painel", (event) => {
    const told = JSON.parse(event.data);
    render(told.html);
    if (busy && !told.busy && !told.trouble) say(told.said);
    if (mark !== undefined && mark !== told.mark) stale = true;
    ({ busy, mark } = told);
    // Not at every reading, and not under somebody's hands: it stays stale, and the next reading looks again.
    if (stale && Date.now() - refreshedAt > 3500 && isIdle()) refresh();
  });
  addEventListener("pagehide", () => events.close());
}

// Nobody reads or writes in the table right now.
const isIdle = () => page === 1 && !find("form.correct, #todos[open]") && !table.contains(document.activeElement);

async function refresh() {
  refreshedAt = Date.now();
  stale = false;
  const query = new URLSearchParams(new FormData(filters));
  const paciente = (query.get("paciente") || "").trim();
  query.delete("paciente");  // a name stands in no address
  for (const [name, value] of [...query]) if (!value) query.delete(name);
  history.replaceState(null, "", query.size ? `?${query}` : location.pathname);
  query.set("pagina", page);
  try {
    const answer = paciente.length > 1 ? sendJson(`/pagina/busca?${query}`, "POST", { paciente }) : ask(`/pagina/tabela?${query}`);
    const html = await (await answer).text();
    if (find("form.correct")) { stale = true; return; }
    const focused = table.contains(document.activeElement) ? document.activeElement.id : "";
    table.innerHTML = html;
    if (focused) document.getElementById(focused)?.focus();
  } catch (error) {
    stale = true;
    say(error.message);
  }
}

function choose(values) {
  for (const name of ["status", "origem", "busca", "paciente", "causa", "conferir"]) {
    if (filters.elements[name]) filters.elements[name].value = values[name] || "";
  }
  page = 1;
  return refresh();
}

filters.addEventListener("submit", (event) => event.preventDefault());
filters.addEventListener("input", (event) => {
  filters.elements.causa.value = filters.elements.conferir.value = "";
  clearTimeout(filters.timer);
  filters.timer = setTimeout(() => { page = 1; refresh(); }, 250);
});

// -- import ----------------------------------------------------------------------------------------------------------

const target = find("#alvo");
const input = find("#arquivo");
const preview = find("#previa");
let sheet = null;
let request = "";  // one for each look at a sheet: pressed twice, it is imported once
let told = new Map();  // what columns carry, by title, where somebody said so
let edits = [];  // cells that stand otherwise than in the file

const about = () => new URLSearchParams([["nome", sheet.name], ...[...told].map((one) => ["coluna", one.join("=")])]);

// The file; with what was edited beside it, in the body of the request and not in its URL.
function body() {
  if (!edits.length) return sheet;
  const form = new FormData();
  form.append("edicoes", JSON.stringify(edits));
  form.append("arquivo", sheet, sheet.name);
  return form;
}

function notice(text) {
  const shown = Object.assign(document.createElement("p"), { className: "notice bad", textContent: text });
  shown.setAttribute("role", "alert");
  return shown;
}

let looks = 0;
async function look() {
  const mine = ++looks;
  request = String(Math.random()).slice(2) + Date.now();
  const before = [...preview.children].filter((one) => !one.matches(".notice.bad"));
  const focused = preview.contains(document.activeElement) ? document.activeElement.id : "";
  const open = new Map([...preview.querySelectorAll("details[id]")].map((one) => [one.id, one.open]));
  preview.hidden = false;
  preview.setAttribute("aria-busy", "true");
  preview.querySelectorAll("[data-import]").forEach((button) => { button.disabled = true; });
  if (!before.length) preview.replaceChildren(Object.assign(document.createElement("p"), { className: "quiet", textContent: `Lendo ${sheet.name}…` }));
  target.classList.add("waiting");
  try {
    const most = Number(preview.dataset.most);
    if (sheet.size > most) throw new Error(`A planilha passa de ${Math.floor(most / 2 ** 20)} MB: divida-a.`);
    let answer = await ask(`/pagina/previa?${about()}`, { method: "POST", body: body() });
    while (mine === looks) {
      const html = await answer.text();
      const fresh = new DOMParser().parseFromString(html, "text/html").body;
      const going = find("[data-looking]", fresh);
      if (mine !== looks) return;
      if (!going || !before.length) preview.replaceChildren(...fresh.childNodes);
      if (!going) break;
      answer = await ask(`/pagina/previas/${going.dataset.looking}`);  // answers when it is ready, or after 2 s
    }
    for (const [id, was] of open) {
      const part = document.getElementById(id);
      if (part && was) part.open = true;
    }
  } catch (error) {
    if (mine !== looks) return;
    preview.replaceChildren(notice(error.message), ...before);  // what was said can be mended
  }
  if (mine !== looks) return;
  preview.removeAttribute("aria-busy");
  target.classList.remove("waiting");
  if (sheet) (focused && document.getElementById(focused) || preview).focus();
}

function begin(file) {
  sheet = file;
  told = new Map();
  edits = [];
  preview.replaceChildren();
  return look();
}

function mean(title, field) {
  told.set(title, field);
  return look();
}

function edit(form) {
  const { sheet: planilha, title: coluna, rows } = form.dataset;
  const every = !form.elements.todas || form.elements.todas.checked;
  const linhas = JSON.parse(rows).slice(0, every ? undefined : 1);
  edits.push({ planilha, coluna, linhas, valor: form.elements.valor.value.trim() });
  return look();
}

// What a missing address means, where something else was chosen than holds.
async function decide() {
  for (const set of preview.querySelectorAll("[data-policy]")) {
    const quando = find("input:checked", set)?.value;
    const { now, marca, unidade } = set.dataset;
    if (quando && quando !== now) await sendJson("/api/politicas/endereco", "PUT", { marca, unidade, quando });
    set.dataset.now = quando || now;
  }
}

async function importNow(button) {
  button.disabled = true;
  button.textContent = "Importando…";
  try {
    await decide();
    policies().catch((error) => say(error.message));
    const query = about();
    if (find('[name="esvaziar"]:checked', preview)) query.append("esvaziar", "true");
    await ask(`/api/imports?${query}`, { method: "POST", body: body(), headers: { "idempotency-key": request } });
    say(`${sheet.name}: importação iniciada.`);
    busy = true;
    close();
  } catch (error) {
    say(error.message);
    button.disabled = false;
    button.textContent = "Tentar de novo";
  }
}

function close() {
  looks += 1;
  preview.hidden = true;
  preview.replaceChildren();
  target.classList.remove("waiting");
  input.value = "";
  sheet = null;
  input.focus();
}

if (target) {
  input.addEventListener("change", () => input.files[0] && begin(input.files[0]));
  for (const name of ["dragover", "dragenter"]) {
    target.addEventListener(name, (event) => { event.preventDefault(); target.classList.add("over"); });
  }
  for (const name of ["dragleave", "drop"]) target.addEventListener(name, () => target.classList.remove("over"));
  target.addEventListener("drop", (event) => {
    event.preventDefault();
    const file = event.dataTransfer.files[0];
    if (file) begin(file);
  });
  // A file dropped beside the target must not replace the page.
  preview.addEventListener("change", ({ target: field }) => {
    if (field.matches(".meanings select")) mean(field.name, field.value);
    if (field.dataset.none) find("[data-import]", preview).disabled = Boolean(find("[data-none]:not(:checked)", preview));
  });
  for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());
}

// -- correction ------------------------------------------------------------------------------------------------------

async function open(button) {
  const row = button.closest("tr");
  if (find("form.correct", row.nextElementSibling || row)) return shut(row.nextElementSibling);
  find("tr.editing")?.remove();
  try {
    const html = await (await ask(`/pagina/agendamentos/${encodeURIComponent(button.dataset.correct)}/corrigir`)).text();
    const holder = document.createElement("tr");
    holder.className = "editing";
    const cell = holder.appendChild(document.createElement("td"));
    cell.colSpan = row.cells.length;
    cell.innerHTML = html;
    row.after(holder);
    button.setAttribute("aria-expanded", "true");
    const form = find("form", cell);
    form.before_ = parts(form);
    find("input", form).focus();
  } catch (error) {
    say(error.message);
  }
}

function shut(holder) {
  const button = find("[data-correct]", holder.previousElementSibling);
  holder.remove();
  button?.setAttribute("aria-expanded", "false");
  button?.focus();
}

// What each fieldset holds now.
function parts(form) {
  const found = {};
  for (const part of form.querySelectorAll("[data-part]")) {
    found[part.dataset.part] = Object.fromEntries(
      [...part.querySelectorAll("input, select")].map((field) => [field.name, field.value.trim() || null]));
  }
  return found;
}

async function save(form) {
  const now = parts(form);
  const changed = Object.keys(now).filter((name) => JSON.stringify(now[name]) !== JSON.stringify(form.before_[name]));
  const wrong = clear(form);
  if (!changed.length) {
    wrong.textContent = "Nada mudou: corrija um campo ou cancele.";
    return;
  }
  const body = Object.fromEntries(changed.map((name) => [name, now[name]]));
  body.revisao = Number(form.dataset.revision);
  try {
    const html = await (await sendJson(`/pagina/agendamentos/${encodeURIComponent(form.dataset.id)}`, "PATCH", body)).text();
    const holder = form.closest("tr");
    const row = holder.previousElementSibling;
    holder.remove();
    const fresh = document.createElement("tbody");
    fresh.innerHTML = html;
    row.replaceWith(fresh.firstElementChild);
    document.getElementById(`c-${form.dataset.id}`)?.focus();
    say("Correção salva neste agendamento. Textos iguais que ainda se lerem recebem o mesmo endereço.");
  } catch (error) {
    show(form, error);
  }
}

// Says of no field any more that it is wrong; returns where to say so of the whole.
function clear(form) {
  form.querySelectorAll("[aria-invalid]").forEach((field) => field.removeAttribute("aria-invalid"));
  form.querySelectorAll(".wrong").forEach((place) => { place.textContent = ""; });
  return find(".wrong[role=alert]", form);
}

// Each error beside its field, all at once; what is no field's stands below.
function show(form, error) {
  complain(form, error.problem?.errors || [], error.message);
  find("[data-again]", form).hidden = error.problem?.status !== 409;
}

function complain(form, told, message) {
  let first = null;
  for (const { campo, esperado, corrigir } of told) {
    const place = find(`[data-error="${campo}"]`, form);
    if (!place) continue;
    const field = find("input, select", place.parentElement);
    place.textContent = `Esperado ${esperado}. ${corrigir || ""}`;
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", place.id);
    first ||= field;
  }
  find(".wrong[role=alert]", form).textContent = first ? "Confira os campos marcados." : message;
  first?.focus();
}

// After a conflict: the appointment as it is now, with what was typed where something was.
async function again(form) {
  const typed = parts(form);
  const before = form.before_;
  const html = await (await ask(`/pagina/agendamentos/${encodeURIComponent(form.dataset.id)}/corrigir`)).text();
  const cell = form.parentElement;
  cell.innerHTML = html;
  const fresh = find("form", cell);
  fresh.before_ = parts(fresh);
  for (const [part, fields] of Object.entries(typed)) {
    for (const [name, value] of Object.entries(fields)) {
      if (value !== before[part][name]) fresh.elements[name].value = value || "";
    }
  }
  find(".wrong[role=alert]", fresh).textContent = "Este é o agendamento de agora, com o que você digitou: confira e salve.";
  find("input", fresh).focus();
}

// -- correction of all of a filter ------------------------------------------------------------------------------------

// First counted, then written as counted: who confirms knows how many.
async function correctAll(form) {
  clear(form);
  const typed = [...new FormData(form)].filter(([, value]) => value.trim());
  const given = Object.fromEntries(typed.map(([name, value]) => [name.replace("todos-", ""), value]));
  const { dispensar, ...endereco } = given;
  const body = { ...(Object.keys(endereco).length && { endereco }), ...(dispensar && { dispensar }) };
  const path = `/api/appointments/corrigir?${form.dataset.query}`;
  try {
    const counted = await (await sendJson(path, "POST", body)).json();
    const left = Object.entries(counted.pulados).map(([what, count]) => [...what.split(": esperado "), count]);
    const others = [counted.iguais && `${counted.iguais} já estão assim`, ...left.map(([campo, , count]) => `${count} não ficariam com um endereço (${campo})`)];
    const rest = others.filter(Boolean).join("; ");
    if (!counted.agendamentos) {
      complain(form, left.map(([campo, esperado]) => ({ campo, esperado })), `Nada mudaria: ${rest || "não há agendamentos"}.`);
      return;
    }
    const title = `Corrigir ${counted.agendamentos} agendamentos (${form.dataset.scope})?`;
    if (!(await sure(`${title}${rest ? ` Ficam como estão: ${rest}.` : ""} Fica em Importações, e desfaz-se lá por 24 horas.`))) return;
    await sendJson(path, "POST", { ...body, esperados: counted.agendamentos });
    say(`Corrigindo ${counted.agendamentos}: acompanhe e desfaça em Importações.`);
    find("#todos").open = false;
    find("select", filters).focus();  // not in the table, which is read again when it is written
  } catch (error) {
    complain(form, error.problem?.errors || [], error.message);
  }
}

// -- what a missing address means -------------------------------------------------------------------------------------

const POLICIES = "/api/politicas/endereco";

async function policies() {
  const place = find("#politicas");
  if (!place) return;
  const html = await (await ask("/pagina/politicas")).text();
  swap(place, document.importNode(find("#politicas", new DOMParser().parseFromString(html, "text/html")), true));
}

async function choosePolicy({ policyOf, name }, quando) {
  await sendJson(POLICIES, "PUT", { [policyOf]: name, quando });
  say("Vale daqui em diante.");
}

async function removePolicy({ unpolicy, name }) {
  await ask(`${POLICIES}?${new URLSearchParams({ [unpolicy]: name })}`, { method: "DELETE" });
  say(`Sem regra para ${name}.`);
  await policies();
}

document.addEventListener("change", ({ target: field }) => {
  if (field.dataset.policyOf) choosePolicy(field.dataset, field.value).catch((error) => say(error.message));
});

// -- what people do --------------------------------------------------------------------------------------------------

function sure(text) {
  const dialog = find("#confirma");
  find("#confirma-texto").textContent = text;
  dialog.returnValue = "nao";
  dialog.showModal();
  return new Promise((done) => dialog.addEventListener("close", () => done(dialog.returnValue === "sim"), { once: true }));
}

async function order(name) {
  await ask(`/api/fila/${name}`, { method: "POST" });
  say(name === "pause" ? "Pausado: o que já começou termina." : "Retomado.");
}

async function undo({ undo: id, name }) {
  if (!(await sure(`Desfazer “${name}”? O que ela criou será apagado, e o que ela mudou volta ao que era.`))) return;
  const { estado, removidos, restaurados, mantidos } = await (await ask(`/api/imports/${id}/desfazer`, { method: "POST" })).json();
  if (estado === "desfazendo") say(`Desfazendo “${name}”: acompanhe em Importações.`);
  else say(`Desfeita: ${removidos} removidos, ${restaurados} restaurados` + (mantidos ? `, ${mantidos} mantidos por terem mudado depois.` : "."));
  refresh();
}

async function retry(status) {
  const { enfileirados } = await (await sendJson("/api/retry", "POST", { status: [status] })).json();
  say(`${enfileirados} de volta à fila.`);
}

document.addEventListener("click", async (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  const data = button.dataset;
  try {
    if (data.order) await order(data.order);
    else if (data.undo) await undo(data);
    else if (data.retry) await retry(data.retry);
    else if ("import" in data) await importNow(button);
    else if ("drop" in data) close();
    else if (data.meaning) await mean(data.title, data.meaning);
    else if (data.correct) await open(button);
    else if (data.suggest) button.form.elements[data.suggest].value = button.value;
    else if ("again" in data) await again(button.closest("form"));
    else if (data.unpolicy) await removePolicy(data);
    else if ("policies" in data) {
      await ask(`${POLICIES}/aplicar`, { method: "POST" });
      say("Aplicando: acompanhe em Importações.");
    } else if (data.dismiss) await ask(`/api/workers/${encodeURIComponent(data.dismiss)}/dispensar`, { method: "POST" });
    else if ("cancel" in data) shut(button.closest("tr"));
    else if (data.page) { page = Number(data.page); await refresh(); }
    else if ("clear" in data) await choose({});
    else if ("cause" in data || data.attention) {
      await choose({ status: data.status, causa: data.cause, conferir: data.attention });
      find("#t-tabela").scrollIntoView({ block: "start" });
    }
  } catch (error) {
    say(error.message);
  }
});
document.addEventListener("click", async (event) => {
  const link = event.target.closest("a[data-filter]");
  if (!link || event.ctrlKey || event.metaKey) return;
  event.preventDefault();
  await choose(Object.fromEntries(new URLSearchParams(link.dataset.filter)));
  find("#t-tabela").scrollIntoView({ block: "start" });
});
document.addEventListener("submit", (event) => {
  if (event.target.matches("form.correct")) {
    event.preventDefault();
    save(event.target);
  } else if (event.target.matches("form.bulk")) {
    event.preventDefault();
    correctAll(event.target);
  } else if (event.target.matches("form.meanings")) {
    event.preventDefault();
  } else if (event.target.matches("form.edit")) {
    event.preventDefault();
    edit(event.target);
  }
});
document.addEventListener("keydown", (event) => {
  const holder = event.target.closest?.("tr.editing");
  if (event.key === "Escape" && holder) shut(holder);
});

follow();
policies().catch((error) => say(error.message));
