/** Where a transaction's gas goes, by kinds of work: an account of every unit between a figure and its floor. */
import hre from "hardhat";

/** Gas by kind; their sum, less the refund, is what the transaction used. */
export interface GasAccount {
  /** 21,000, and what the calldata costs. */
  intrinsic: number;
  /** Slots that weren't touched before, and those that were. */
  coldStorage: number;
  warmStorage: number;
  log: number;
  /** Calls without code: precompiles. */
  precompile: number;
  /** What calls cost themselves, cold addresses included. */
  call: number;
  keccak: number;
  /** Reading and writing memory, its growth, and copying. */
  memory: number;
  calldata: number;
  rest: number;
  /** What is given back for slots that became empty. */
  refund: number;
}

interface Step {
  op: string;
  gas: number;
  gasCost: number;
  depth: number;
}

const COLD_READ = 2_100;
const CALLS = /^(CALL|CALLCODE|DELEGATECALL|STATICCALL|CREATE2?)$/;

/** Adds up a transaction's steps. Takes a trace: some hundred bytes of memory a step. */
export async function gasAccountOf(hash: string): Promise<GasAccount> {
  const { provider } = hre.ethers;
  const [{ gasUsed }, { gasLimit }] = [
    (await provider.getTransactionReceipt(hash))!,
    (await provider.getTransaction(hash))!,
  ];
  const options = { disableStack: true, disableMemory: true, disableStorage: true };
  const { structLogs: steps } = (await hre.network.provider.send("debug_traceTransaction", [hash, options])) as {
    structLogs: Step[];
  };

  const account: GasAccount = {
    intrinsic: Number(gasLimit) - steps[0].gas,
    coldStorage: 0,
    warmStorage: 0,
    log: 0,
    precompile: 0,
    call: 0,
    keccak: 0,
    memory: 0,
    calldata: 0,
    rest: 0,
    refund: 0,
  };
  const costs = costsOf(steps);
  steps.forEach(({ op, depth }, i) => {
    const isCodeless = CALLS.test(op) && steps[i + 1].depth <= depth;
    account[kindOf(op, costs[i], isCodeless)] += costs[i];
  });
  const spent = Object.values(account).reduce((sum, gas) => sum + gas, 0);
  account.refund = spent - Number(gasUsed);
  return account;
}

/** What each step costs itself, without what it calls. */
function costsOf(steps: Step[]): number[] {
  const costs = steps.map(({ gasCost }) => gasCost);
  for (let i = steps.length - 1; i >= 0; i--) {
    if (!CALLS.test(steps[i].op)) continue;
    let [next, below] = [i + 1, 0];
    while (steps[next].depth > steps[i].depth) below += costs[next++];
    costs[i] = steps[i].gas - steps[next].gas - below;
  }
  return costs;
}

function kindOf(op: string, cost: number, isCodeless: boolean): Exclude<keyof GasAccount, "intrinsic" | "refund"> {
  if (op === "SLOAD" || op === "SSTORE") return cost >= COLD_READ ? "coldStorage" : "warmStorage";
  if (op.startsWith("LOG")) return "log";
  if (CALLS.test(op)) return isCodeless ? "precompile" : "call";
  if (/^(KECCAK256|SHA3)$/.test(op)) return "keccak";
  if (/^(MLOAD|MSTORE8?|MCOPY|CODECOPY|RETURNDATACOPY|EXTCODECOPY)$/.test(op)) return "memory";
  if (/^CALLDATA(LOAD|COPY|SIZE)$/.test(op)) return "calldata";
  return "rest";
}
