import { getBytes, keccak256 } from "ethers";
import { createKeccak, type IHasher } from "hash-wasm";

/** About 20 times as fast as ethers' hash, but it loads asynchronously: until it has, ethers gives the same answers. */
let shared: IHasher | undefined;
const loading: Promise<IHasher> = createKeccak(256).then((hasher) => (shared = hasher));

/** Resolves once hashes are fast. */
export const keccakLoaded: Promise<unknown> = loading;

/** The 32 bytes of keccak256(bytes). */
export function keccak(bytes: Uint8Array): Uint8Array {
  return shared === undefined ? getBytes(keccak256(bytes)) : shared.init().update(bytes).digest("binary");
}

/** A keccak256 that is fed piece by piece. Any number of them may run at once. */
export class RunningKeccak {
  private constructor(
    private readonly hasher: IHasher,
    private state: Uint8Array,
  ) {}

  static async start(): Promise<RunningKeccak> {
    const hasher = await loading;
    return new RunningKeccak(hasher, hasher.init().save());
  }

  update(bytes: Uint8Array): void {
    this.state = this.hasher.load(this.state).update(bytes).save();
  }

  /** The hash of all that was fed so far; more may be fed afterwards. */
  digest(): Uint8Array {
    return this.hasher.load(this.state).digest("binary");
  }
}
