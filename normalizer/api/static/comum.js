// What the pages share: finding elements, a word to the person, and requests. No library, no third party.

export const find = (selector, root = document) => root.querySelector(selector);

export function say(text) {
  const toast = find("#aviso");
  toast.textContent = text;
  toast.classList.add("shown");
  clearTimeout(say.timer);
  say.timer = setTimeout(() => toast.classList.remove("shown"), 6000);
}

// Rejects with what the server says is wrong: `status`, and the whole `problem`. Without a session the page asks for it.
export async function ask(path, options = {}) {
  let answer;
  try {
    answer = await fetch(path, { credentials: "same-origin", ...options });
  } catch {
    throw new Error("O servidor não respondeu. Confira a conexão e tente de novo.");
  }
  if (answer.status === 401) location.assign(location.pathname);
  if (!answer.ok) {
    const problem = await answer.json().catch(() => ({}));
    throw Object.assign(new Error(problem.detail || `Erro ${answer.status}`), { problem, status: answer.status });
  }
  return answer;
}

export const sendJson = (path, method, body) =>
  ask(path, { method, headers: { "content-type": "application/json" }, body: JSON.stringify(body) });
