// The views in the order of their keys, each loaded when it is first opened.
export const VIEWS = [
  { id: "chat", key: "1", load: () => import("../views/chat.js") },
  { id: "tokens", key: "2", load: () => import("../views/tokens.js") },
  { id: "position", key: "3", load: () => import("../views/position.js") },
  { id: "attention", key: "4", load: () => import("../views/attention.js") },
  { id: "heads", key: "5", load: () => import("../views/heads.js") },
  { id: "layers", key: "6", load: () => import("../views/layers.js") },
  { id: "generation", key: "7", load: () => import("../views/generation.js") },
  { id: "training", key: "8", load: () => import("../views/training.js") },
];
