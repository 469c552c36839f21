import type { Receipt } from "../protocol/types";
import type { ApiError, ModelRequest } from "./openai";

/** Is told what a gateway does, to count it. Must not throw. */
export interface GatewayObserver {
  /** A request was admitted. What it gives is called when the request has ended. */
  began(request: Pick<ModelRequest, "kind" | "stream">): () => void;
  /** An answer is out, or its client is gone. @param route as it was declared, and not as it was asked for */
  answered(route: string, status: number): void;
  refused(error: ApiError): void;
  /** A receipt is on disk. @param cost in units of the currency */
  charged(receipt: Receipt, cost: bigint): void;
}

/** What a gateway holds at the moment. */
export interface GatewayFigures {
  /** Requests that run. */
  running: number;
  /** What those may cost at worst, in units of the currency. */
  reserved: bigint;
  upstreams: { model: string; count: number; up: number }[];
}
