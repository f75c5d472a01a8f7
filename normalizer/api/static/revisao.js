// The review desk: one question at a time, by keyboard or touch. The server renders; this sends what a person decides.

import { ask, find, say, sendJson } from "./comum.js";

const list = find("#perguntas");
const FEW = 10;  // questions left when the next ones are fetched
const undoable = [];  // ids of what was decided here, the last one at the end
const leaving = new Set();  // keys of what is decided here and not yet written
let now = null;  // the question in hand
let sent = Promise.resolve();  // the server is spoken to in order, while the person goes on: no list is older than a decision

const questions = () => [...list.querySelectorAll(".question")];
const typing = (target) => target.matches("input:not([type=radio]), select, textarea");

const send = (path, body) => sendJson(path, "POST", body);

function inOrder(work) {
  sent = sent.then(work).catch((error) => say(error.message));
}

function rendered(html) {
  return document.importNode(new DOMParser().parseFromString(html, "text/html").body, true);
}

// -- the question in hand ---------------------------------------------------------------------------------------------

function take(question, { focus = true } = {}) {
  now?.classList.remove("now");
  now?.removeAttribute("aria-current");
  now = question || null;
  if (!now) return;
  find("#nada").hidden = true;
  now.classList.add("now");
  now.setAttribute("aria-current", "true");
  if (focus) now.focus({ preventScroll: true });
  now.scrollIntoView({ block: "nearest" });
}

function step(by) {
  const all = questions();
  const next = all[all.indexOf(now) + by];
  if (next) take(next);
}

function choose(button) {
  for (const one of button.closest(".candidates").querySelectorAll(".candidate")) {
    one.setAttribute("aria-pressed", String(one === button));
  }
  complain(button.closest(".question"), "");
}

const chosen = (question) => find('.candidate[aria-pressed="true"]', question);
const complain = (question, text) => { find(".wrong", question).textContent = text; };

const scope = (question) => find(".scope input:checked", question)?.value || "iguais";

function rescope(question) {
  const button = find('[data-do="apply"]', question);
  const kbd = find("kbd", button || document.createElement("p"));
  if (!button || !question.dataset.total) return;
  button.textContent = scope(question) === "este" ? "Aplicar só a este " : `Aplicar a ${Number(question.dataset.total).toLocaleString("pt-BR")} `;
  button.append(kbd);
}

function neighbour(question) {
  const all = questions();
  return all[all.indexOf(question) + 1] || all[all.indexOf(question) - 1];
}

// Out of the list; the next one comes into hand.
async function drop(question) {
  const next = neighbour(question);
  question.remove();
  if (question === now) take(next);
  if (questions().length < FEW) await more();
  if (!questions().length && !leaving.size) await reload();
}

const isHere = (fresh) => Boolean(document.getElementById(fresh.id)) || leaving.has(fresh.dataset.key);

async function more() {
  const shown = find(".questions", list);
  const cursor = shown.dataset.cursor;
  if (!cursor) return;
  shown.dataset.cursor = "";
  const query = new URLSearchParams(location.search);
  query.set("cursor", cursor);
  const fresh = find(".questions", rendered(await (await ask(`/pagina/revisao?${query}`)).text()));
  shown.dataset.cursor = fresh.dataset.cursor;
  for (const one of [...fresh.children]) if (!isHere(one)) shown.append(one);
  if (!now) take(questions()[0]);
}

async function reload() {
  const fresh = rendered(await (await ask(`/pagina/revisao${location.search}`)).text());
  const typed = questions().filter((one) => find("form", one));
  tally(find(".questions", fresh).dataset.open);
  list.replaceChildren(...fresh.childNodes);
  for (const one of questions()) if (leaving.has(one.dataset.key)) one.remove();
  for (const one of typed) putBack(one, document.getElementById(one.id));
  take(typed.includes(now) ? now : questions()[0]);
  find("#nada").hidden = Boolean(now);
}

function putBack(question, place) {
  if (place?.isConnected) place.replaceWith(question);
  else find(".questions", list).prepend(question);
}

// The same question again, as it is now; what is being typed stays. False when nobody asks it any more.
async function renew(question) {
  const fresh = find(".question", rendered(await (await ask(`/pagina/revisao/${question.dataset.key}`)).text()));
  if (!fresh) return false;
  const form = find("form", question);
  if (form) {
    question.dataset.version = fresh.dataset.version;
    question.dataset.total = fresh.dataset.total;
    rescope(question);
    return true;
  }
  question.replaceWith(fresh);
  if (question === now) take(fresh);
  return true;
}

// -- decisions --------------------------------------------------------------------------------------------------------

// Whoever decides for all has the next question at once; a refusal brings this one back. A form waits for its answer.
function decide(question, answer) {
  if (question.inert) return;
  question.inert = true;
  const { key, version, example, kind } = question.dataset;
  const only = scope(question) === "este" ? { escopo: "este", agendamento: example } : { escopo: "iguais" };
  const place = document.createComment(key);
  const leaves = only.escopo === "iguais" && kind !== "falta" && !find("form", question);
  if (leaves) {
    const next = neighbour(question);
    question.replaceWith(place);
    leaving.add(key);
    take(next);
  }
  inOrder(async () => {
    let done;
    try {
      done = await (await send(`/api/revisao/${key}`, { ...answer, ...only, versao: Number(version) })).json();
    } catch (error) {
      question.inert = false;
      if (leaves) putBack(question, place);
      return refused(question, error);
    } finally {
      leaving.delete(key);
    }
    undoable.push({ id: done.id, key });
    return noted(question, done);
  });
}

function tally(open) {
  const count = find("#abertos");
  count.dataset.count = open;
  count.textContent = `${Number(open).toLocaleString("pt-BR")} ${Number(open) === 1 ? "agendamento" : "agendamentos"} para revisar`;
}

async function noted(question, done) {
  tally(Math.max(0, find("#abertos").dataset.count - done.agendamentos + done.restam));
  const count = `${done.agendamentos.toLocaleString("pt-BR")} ${done.agendamentos === 1 ? "agendamento" : "agendamentos"}`;
  const rest = done.restam ? `; ${done.restam.toLocaleString("pt-BR")} ainda têm outra pergunta` : "";
  const waiting = done.escopo === "este" ? Number(question.dataset.total) - 1 : 0;
  const others = waiting > 0 ? `; ${waiting === 1 ? "outro igual espera" : `outros ${waiting} iguais esperam`}` : "";
  say(done.escopo === "este" ? `Gravado só neste${others}. U desfaz.` : `Gravado em ${count}${rest}. U desfaz.`);
  history(done);
  lessons().catch((error) => say(error.message));
  if (question.dataset.kind === "falta") return reload();
  if (done.escopo === "este") {
    find(".other", question).replaceChildren();
    find(".other", question).hidden = true;
    question.inert = false;
    if (await renew(question)) return;
  }
  await drop(question);
}

function history(done) {
  const line = document.createElement("li");
  const what = document.createElement("span");
  const button = document.createElement("button");
  const word = { dispensar: "não é preciso", adiar: "adiado" }[done.acao] || "decidido";
  what.textContent = `agora ${word}: ${done.motivo} · ${done.agendamentos.toLocaleString("pt-BR")}`;
  Object.assign(button, { type: "button", className: "plain", textContent: "Desfazer" });
  button.dataset.undo = done.id;
  line.append(what, button);
  find("#decisoes .none")?.remove();
  find("#decisoes").prepend(line);
}

async function refused(question, error) {
  if (!question.isConnected) return say(error.message);
  if (error.status === 409 || error.status === 404) return changed(question, error);
  take(question);
  const field = error.problem?.errors?.[0]?.campo;
  const input = find(`form [name="${field}"]`, question);
  for (const one of question.querySelectorAll("[aria-invalid]")) one.removeAttribute("aria-invalid");
  if (input) {
    input.setAttribute("aria-invalid", "true");
    input.focus();
  }
  complain(question, error.message);
}

// Somebody was faster: the question as it is now; where nobody asks it any more, the next one, unless something is typed.
async function changed(question, error) {
  const lack = question.dataset.kind === "falta";
  if (!lack && await renew(question)) {
    const same = document.getElementById(question.id);
    take(same);
    return complain(same, `${error.message} Confira e aplique de novo.`);
  }
  if (find("form", question)) return complain(question, error.message);
  say(error.message);
  return lack ? reload() : drop(question);
}

async function undo(id, button) {
  const undone = await (await send(`/api/revisao/decisoes/${id}/desfazer`, {})).json();
  const kept = undone.mantidos ? `; ${undone.mantidos} mudaram depois e ficam` : "";
  say(`Desfeito: ${undone.reabertos} de volta à revisão${kept}.`);
  button ||= find(`[data-undo="${id}"]`);
  button?.replaceWith("desfeita");
  const at = undoable.findIndex((one) => one.id === id);
  if (at >= 0) undoable.splice(at, 1);
  await reload();
  const again = document.getElementById(`q-${id.slice(0, id.lastIndexOf("-"))}`);
  if (again) take(again);
}

// -- what a person does -----------------------------------------------------------------------------------------------

function edit(question) {
  const place = find(".other", question);
  const template = find(`#forma-${question.dataset.kind}`);
  if (!place || !template) return;
  if (place.hidden) {
    const picked = chosen(question);
    const answer = picked ? JSON.parse(picked.dataset.answer) : {};
    const values = answer.endereco || answer.documento || JSON.parse(question.dataset.known);
    place.replaceChildren(template.content.cloneNode(true));
    for (const [name, value] of Object.entries(values)) {
      const input = find(`[name="${name}"]`, place);
      if (input && value) input.value = value;
    }
    place.hidden = false;
  }
  const inputs = [...place.querySelectorAll("input, select")];
  (inputs.find((one) => !one.value) || inputs[0]).focus();
}

function close(question) {
  find(".other", question).replaceChildren();
  find(".other", question).hidden = true;
  question.focus();
}

function later(question) {
  const all = questions();
  const next = all[all.indexOf(question) + 1];
  question.parentElement.append(question);
  take(next || all[0]);
  inOrder(async () => {
    const done = await (await send(`/api/revisao/${question.dataset.key}`, { acao: "adiar" })).json();
    question.dataset.version = done.versao;
    undoable.push({ id: done.id, key: question.dataset.key });
    history(done);
    say("Adiada por um dia: fica depois das outras. U desfaz.");
  });
}

const actions = {
  apply(question) {
    const picked = chosen(question);
    if (picked) decide(question, JSON.parse(picked.dataset.answer));
    else complain(question, "Escolha uma das respostas, ou E para escrever outra.");
  },
  none: (question) => { if (question.dataset.kind !== "falta") decide(question, { acao: "dispensar" }); },
  later,
  edit,
  close,
};

const keys = {
  Enter: () => actions.apply(now),
  e: () => edit(now),
  n: () => actions.none(now),
  p: () => later(now),
  j: () => step(1),
  k: () => step(-1),
  s() {
    const other = find(".scope input:not(:checked)", now);
    if (other) other.checked = true;
    rescope(now);
  },
};

addEventListener("keydown", (event) => {
  const { target, key } = event;
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  if (key === "Escape" && target.closest(".other")) return close(target.closest(".question"));
  if (typing(target)) return;
  const lower = key.length === 1 ? key.toLowerCase() : key;
  if (lower === "/") {
    event.preventDefault();
    find("#filtro select").focus();
  } else if (lower === "u") {
    event.preventDefault();
    inOrder(() => {
      const last = undoable.at(-1);
      return last ? undo(last.id) : say("Nada para desfazer aqui; veja as últimas decisões.");
    });
  } else if (now && find(".buttons", now) && /^[1-9]$/.test(key)) {
    const button = now.querySelectorAll(".candidate")[Number(key) - 1];
    if (button) choose(button);
  } else if (now && keys[lower] && (lower === "j" || lower === "k" || find(".buttons", now))) {
    if (key === "Enter" && target.closest("button:not(.candidate), a, summary")) return;
    event.preventDefault();
    keys[lower]();
  }
});

list.addEventListener("click", (event) => {
  const question = event.target.closest(".question");
  if (!question) return;
  if (question !== now) take(question, { focus: false });
  const candidate = event.target.closest(".candidate");
  if (candidate) choose(candidate);
  const action = event.target.closest("[data-do]")?.dataset.do;
  if (action) actions[action](question);
});

list.addEventListener("change", (event) => {
  if (event.target.type === "radio") rescope(event.target.closest(".question"));
});

list.addEventListener("focusin", (event) => {
  const question = event.target.closest(".question");
  if (question && question !== now) take(question, { focus: false });
});

list.addEventListener("submit", (event) => {
  event.preventDefault();
  const question = event.target.closest(".question");
  const fields = Object.fromEntries([...new FormData(event.target)].map(([name, value]) => [name, value.trim() || null]));
  decide(question, { [question.dataset.kind]: fields });
});

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-undo]");
  if (button) inOrder(() => undo(button.dataset.undo, button));
  if (event.target.closest("[data-reload]")) inOrder(reload);
});

// What the decisions teach: an entry of the clinic's own list, put in and taken out by one click.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-teach], [data-unteach]");
  if (!button) return;
  button.disabled = true;
  inOrder(() => teach(button.dataset).finally(() => { button.disabled = false; }));
});

async function teach({ teach: word, unteach }) {
  const answer = await ask(`/api/revisao/palavras/${word || unteach}`, { method: word ? "POST" : "DELETE" });
  const { agendamentos, reabertos } = await answer.json();
  say(word ? `Na lista: ${agendamentos} resolvidos por ela.` : `Fora da lista: ${reabertos} de volta à revisão.`);
  await lessons();
  await reload();
}

async function lessons() {
  find("#palavras")?.replaceWith(find("#palavras", rendered(await (await ask("/pagina/palavras")).text())));
}

const filter = find("#filtro");
filter.addEventListener("change", () => {
  const query = new URLSearchParams([...new FormData(filter)].filter(([, value]) => value));
  location.assign(`/revisao${query.size ? `?${query}` : ""}`);
});

take(questions()[0], { focus: Boolean(questions().length) });
