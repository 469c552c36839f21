import { withDeadline } from "../chain/deadline";

const CONTROL_TIMEOUT_MS = 5_000;

/**
 * Whether this machine reaches anything: one of the controls, whatever it answers, or where there are none the chain's node.
 * @param controls URLs of others, who are up whenever this machine's network is
 */
export function onlineCheck(controls: readonly string[], askNode: () => Promise<unknown>): () => Promise<boolean> {
  const asks =
    controls.length === 0
      ? [() => withDeadline(CONTROL_TIMEOUT_MS, askNode)]
      : controls.map((url) => () => fetch(url, { method: "HEAD", signal: AbortSignal.timeout(CONTROL_TIMEOUT_MS) }));
  return () =>
    Promise.any(asks.map((ask) => ask())).then(
      () => true,
      () => false,
    );
}
