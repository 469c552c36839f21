/** An inference server. */
export interface UpstreamConfig {
  /** Root of an OpenAI-compatible server, without `/v1`. */
  url: string;
  /** What the server calls the model, if not the same as clients do. */
  model?: string;
  /** Of this replica, by which compute time is multiplied; 1 if left out. */
  gpus?: number;
  /** Sent as the bearer token, where the server wants one. */
  apiKey?: string;
}

export interface ModelConfig {
  /** What clients call it. */
  id: string;
  /** Replicas that serve the same version, at least one. */
  upstreams: UpstreamConfig[];
  assetId: number;
  versionId: bigint;
  manifestHash: string;
  /** Whether what classifications ask is kept until their charges are released: proofs of their answers are made of it. */
  keepInputs?: boolean;
  /** Whether its version names a verifier of proofs. */
  hasVerifier?: boolean;
}

/** Whether its answers to classifications can be proven. */
export function isProvable({ hasVerifier, keepInputs }: Pick<ModelConfig, "hasVerifier" | "keepInputs">): boolean {
  return hasVerifier === true && keepInputs === true;
}
