// The conversation as a tree: to edit a question or to ask once more is a branch, and nothing that was said is lost.
const KEY = "instar.chat";
const MOST = 4_000_000; // characters that a tab is given to keep

/** @typedef {{id: number, parent: number, role: "user" | "assistant", text?: string, said?: any, beside?: any}} Node */

/** @param {Storage} [storage] */
export function createTree(storage = sessionStorage) {
  /** @type {Map<number, Node>} */
  const nodes = new Map();
  let picked = {}; // which child of a node is gone on with
  let next = 1;
  let timer = 0;

  function load() {
    try {
      const kept = JSON.parse(storage.getItem(KEY) ?? "null");
      for (const node of kept?.nodes ?? []) nodes.set(node.id, node);
      picked = kept?.picked ?? {};
      next = kept?.next ?? 1;
    } catch {
      nodes.clear(); // what another page wrote there is no conversation
    }
  }

  const slim = (said) => said && { ...said, tokens: said.tokens.map(({ top, ...token }) => token) };

  function save() {
    timer = 0;
    // alternatives can be asked for again; they are most of the bytes. The oldest text goes last
    let all = [...nodes.values()].map((node) => ({ ...node, said: slim(node.said), beside: slim(node.beside) }));
    let text = JSON.stringify({ nodes: all, picked, next });
    if (text.length > MOST) {
      all = all.map((node) => ({ ...node, said: node.said && { ...node.said, tokens: [], text: plain(node.said) }, beside: undefined }));
      text = JSON.stringify({ nodes: all, picked, next });
    }
    try {
      storage.setItem(KEY, text);
    } catch (error) {
      if (error.name !== "QuotaExceededError") throw error; // a full store keeps what it had
    }
  }

  const children = (parent) => [...nodes.values()].filter((node) => node.parent === parent);
  load();

  return {
    /** @param {Omit<Node, "id">} node @returns {Node} the new branch, which is gone on with */
    add(node) {
      const made = { ...node, id: next++ };
      nodes.set(made.id, made);
      picked[made.parent] = made.id;
      this.keep();
      return made;
    },
    /** The line that is shown, from its beginning. @returns {Node[]} */
    path() {
      const line = [];
      for (let at = 0; ;) {
        const own = picked[at] === -1 ? [] : children(at);
        const node = nodes.get(picked[at]) ?? own[own.length - 1];
        if (!node) return line;
        line.push(node);
        at = node.id;
      }
    },
    siblings: (node) => children(node.parent),
    /** Go on with the branch before or behind. @param {Node} node @param {number} by */
    turn(node, by) {
      const own = children(node.parent);
      picked[node.parent] = own[Math.max(0, Math.min(own.length - 1, own.indexOf(node) + by))].id;
      this.keep();
    },
    /** Begin anew beside what was said. */
    leave() {
      picked[0] = -1;
    },
    keep() {
      timer ||= setTimeout(save, 400);
    },
    /** At once, where the page is left. */
    flush() {
      clearTimeout(timer);
      save();
    },
  };
}

/** What an answer says. @param {any} said */
export const plain = (said) => said.tokens.length ? said.tokens.map((token) => token.text).join("") : said.text ?? "";
