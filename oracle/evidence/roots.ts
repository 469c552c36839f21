/** Fingerprints (SHA-256) of the makers' roots; docs/evidence.md says where they come from. */
export const ROOTS = {
  nvidia: "102bf659d5419614c9d8e6aecebc80454eb26b1df6a769ac720b9a690b167b48",
  intel: "44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3",
  amdMilan: "69d063b45344d26a2e94e1f4210de49ef555308287d4c174445c95639a540bcd",
} as const;
