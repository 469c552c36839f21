import { Contract, Interface, MaxUint256, toQuantity, TypedDataEncoder, type TypedDataDomain } from "ethers";
import { LicenseRegistry__factory, UsageEscrow__factory } from "../../typechain-types";
import type { RpcProvider } from "../chain/ethersChain";
import { refusalOf } from "../chain/refusal";
import { isAnswer } from "../chain/smartAccount";
import { statusName } from "../chain/statuses";
import { finalHeight, type Finality, type Witness } from "../chain/witness";
import { Problem } from "../problem";
import { ChainRefusal, type Call } from "../settler/sender";
import type { SignedPayment } from "./exact";

/** A plan, as somebody who buys a license under it sees it. */
export interface PlanOnSale {
  assetId: number;
  isOpen: boolean;
  /** Units of the currency. */
  upfrontPrice: bigint;
  minimumSpend: bigint;
  minEvidenceTier: number;
}

/** What became of a payment: made for its payee in a transaction that is final, or not yet final; not made; or its nonce used otherwise. */
export type PaymentFate = { state: "made"; hash: string } | { state: "pending" | "open" | "void" };

/** What prepayments ask of the chain. All methods throw if it can't be read. */
export interface PrepaymentChain {
  chainId: bigint;
  escrow: string;
  currency: string;
  /** Of the currency. */
  domain: { name: string; version: string };
  plan(planId: number): Promise<PlanOnSale | null>;
  /** Whether the operator serves a plan. */
  serves(operatorId: number, planId: number): Promise<boolean>;
  allowance(account: string): Promise<bigint>;
  fateOf(payment: SignedPayment): Promise<PaymentFate>;
  /** @throws ChainRefusal if the currency wouldn't make the payment now */
  requirePayable(payment: SignedPayment): Promise<void>;
  /** The license that a transaction bought. */
  licenseBoughtIn(hash: string): Promise<bigint>;

  /** Makes a payment. */
  payment(payment: SignedPayment): Promise<Call>;
  /** Lets the escrow take what licenses cost. */
  approval(): Promise<Call>;
  purchase(purchase: {
    planId: number;
    operatorId: number;
    to: string;
    amount: bigint;
    maxPrice: bigint;
    deadline: number;
  }): Promise<Call>;
  /** Sends money to somebody. */
  transfer(to: string, amount: bigint): Promise<Call>;
}

const PLAIN_SIGNATURE = 65;
/** A stranger's payment is looked for in the chain's logs so far back: as long as a signature may count, on fast chains. */
const MOST_BLOCKS = 50_000;
/** Nodes give logs of so many blocks at once. */
const BLOCKS_AT_ONCE = 5_000;

const PARAMETERS = "address from, address to, uint256 value, uint256 validAfter, uint256 validBefore, bytes32 nonce";
const CURRENCY = new Interface([
  `function transferWithAuthorization(${PARAMETERS}, uint8 v, bytes32 r, bytes32 s)`,
  `function transferWithAuthorization(${PARAMETERS}, bytes signature)`,
  "function authorizationState(address authorizer, bytes32 nonce) view returns (bool)",
  "function approve(address spender, uint256 amount) returns (bool)",
  "function transfer(address to, uint256 amount) returns (bool)",
  "function allowance(address owner, address spender) view returns (uint256)",
  "function name() view returns (string)",
  "function version() view returns (string)",
  "function DOMAIN_SEPARATOR() view returns (bytes32)",
  "function eip712Domain() view returns (bytes1, string name, string version, uint256, address, bytes32, uint256[])",
  "event AuthorizationUsed(address indexed authorizer, bytes32 indexed nonce)",
  "event Transfer(address indexed from, address indexed to, uint256 value)",
]);

interface RpcLog {
  address: string;
  topics: string[];
  data: string;
  logIndex: string;
}

const logFact = ({ address, topics, data, logIndex }: RpcLog) => [address, topics, data, logIndex];

export interface PrepaymentChainConfig {
  escrow: string;
  /** The account that is paid. */
  account: string;
  finality: Finality;
  /** Asked before somebody else's payment is believed. */
  witness: Witness;
  fromBlock: number;
}

/** @throws Problem if the currency can't be paid by EIP-3009 */
export async function connectPrepaymentChain(
  provider: RpcProvider,
  { escrow: address, account, finality, witness, fromBlock }: PrepaymentChainConfig,
): Promise<PrepaymentChain> {
  const runner = { provider };
  const escrow = UsageEscrow__factory.connect(address, runner);
  const [{ chainId }, asset, licensesAt, operatorsAt] = await Promise.all([
    provider.getNetwork(),
    escrow.CURRENCY(),
    escrow.LICENSES(),
    escrow.OPERATORS(),
  ]);
  const currency = new Contract(asset, CURRENCY, runner);
  const licenses = LicenseRegistry__factory.connect(licensesAt, runner);
  const operators = new Contract(operatorsAt, ["function serves(uint24, uint32) view returns (bool)"], runner);
  const domain = await domainOf(currency, { chainId, verifyingContract: asset });

  const callOf = (name: string, values: unknown[]): Call => ({
    to: asset,
    data: CURRENCY.encodeFunctionData(name, values),
  });

  function paymentCall({ payer, payTo, amount, validAfter, validBefore, nonce, signature }: SignedPayment): Call {
    const values = [payer, payTo, amount, validAfter, validBefore, nonce];
    if ((signature.length - 2) / 2 !== PLAIN_SIGNATURE) {
      return callOf(`transferWithAuthorization(${TYPES},bytes)`, [...values, signature]);
    }
    const [r, s, v] = [signature.slice(0, 66), `0x${signature.slice(66, 130)}`, `0x${signature.slice(130)}`];
    return callOf(`transferWithAuthorization(${TYPES},uint8,bytes32,bytes32)`, [...values, v, r, s]);
  }

  async function logsOf(hash: string): Promise<RpcLog[]> {
    const logs = (receipt: unknown) => (receipt as { logs: RpcLog[] } | null)?.logs ?? [];
    return logs(
      await witness.ask("eth_getTransactionReceipt", [hash], (receipt) => JSON.stringify(logs(receipt).map(logFact))),
    );
  }

  /** Who moved the money of a used nonce: its log stands right before that of the transfer. */
  async function transactionOf({
    payer,
    payTo,
    amount,
    nonce,
  }: SignedPayment): Promise<{ hash: string; block: number } | null> {
    const latest = await provider.getBlockNumber();
    const first = Math.max(fromBlock, latest - MOST_BLOCKS);
    const topics = CURRENCY.encodeFilterTopics("AuthorizationUsed", [payer, nonce]);
    for (let to = latest; to >= first; to -= BLOCKS_AT_ONCE) {
      const from = Math.max(first, to - BLOCKS_AT_ONCE + 1);
      const [used] = await provider.getLogs({
        address: asset,
        topics,
        fromBlock: toQuantity(from),
        toBlock: toQuantity(to),
      });
      if (used === undefined) continue;
      const logs = await logsOf(used.transactionHash);
      const next = logs.find(({ logIndex }) => Number(logIndex) === used.index + 1);
      const wanted = CURRENCY.encodeEventLog("Transfer", [payer, payTo, amount]);
      const isIt =
        next?.address.toLowerCase() === asset.toLowerCase() &&
        next.data === wanted.data &&
        String(next.topics) === String(wanted.topics);
      return isIt ? { hash: used.transactionHash, block: used.blockNumber } : null;
    }
    return null;
  }

  return {
    chainId,
    escrow: address,
    currency: asset,
    domain,

    async plan(planId) {
      const status = statusName("PlanStatus", await licenses.statusOf(planId));
      if (status === "None") return null;
      const { assetId, upfrontPrice, minimumSpend, minEvidenceTier } = await licenses.termsOf(planId);
      const isOpen = status === "Open";
      return { assetId: Number(assetId), isOpen, upfrontPrice, minimumSpend, minEvidenceTier: Number(minEvidenceTier) };
    },

    serves: async (operatorId, planId) => (await operators.serves(operatorId, planId)) as boolean,

    allowance: async (owner) => (await currency.allowance(owner, address)) as bigint,

    async fateOf(payment) {
      if (!((await currency.authorizationState(payment.payer, payment.nonce)) as boolean)) return { state: "open" };
      const made = await transactionOf(payment);
      if (made === null) return { state: "void" };
      return made.block <= (await finalHeight(witness, finality))
        ? { state: "made", hash: made.hash }
        : { state: "pending" };
    },

    async requirePayable(payment) {
      await provider.call({ ...paymentCall(payment), from: account }).catch((error: Error) => {
        const refusal = refusalOf(error);
        if (refusal === undefined && !isAnswer(error)) throw error;
        throw new ChainRefusal(refusal ?? "the currency refuses it", { cause: error });
      });
    },

    async licenseBoughtIn(hash) {
      const receipt = await provider.getTransactionReceipt(hash);
      for (const log of receipt?.logs ?? []) {
        if (log.address !== address) continue;
        const event = escrow.interface.parseLog(log);
        if (event?.name === "LicenseBought") return event.args.licenseId as bigint;
      }
      throw new Error(`Transaction ${hash} bought no license, as far as the node knows`);
    },

    payment: async (payment) => paymentCall(payment),
    approval: async () => callOf("approve", [address, MaxUint256]),
    purchase: async (purchase) => escrow.buy.populateTransaction({ ...purchase, capCode: 0 }),
    transfer: async (to, amount) => callOf("transfer", [to, amount]),
  };
}

const TYPES = "address,address,uint256,uint256,uint256,bytes32";

/** As the currency tells it (ERC-5267), or by its name and version, as older ones want it. @throws Problem */
async function domainOf(
  currency: Contract,
  place: { chainId: bigint; verifyingContract: string },
): Promise<{ name: string; version: string }> {
  const ask = async <T>(method: string): Promise<T | null> => {
    try {
      return (await currency[method]()) as T;
    } catch (error) {
      if (isAnswer(error as Error)) return null;
      throw error;
    }
  };
  const told = await ask<{ name: string; version: string }>("eip712Domain");
  const name = told?.name ?? (await ask<string>("name")) ?? "";
  const version = told?.version ?? (await ask<string>("version")) ?? "1";
  const domain: TypedDataDomain = { name, version, ...place };
  if (TypedDataEncoder.hashDomain(domain) === (await ask<string>("DOMAIN_SEPARATOR"))) return { name, version };
  throw new Problem(
    `The currency at ${place.verifyingContract} can't be paid by x402: its signatures aren't for the domain ` +
      `${JSON.stringify({ name, version })}. Leave the section gateway.x402 out.`,
  );
}
