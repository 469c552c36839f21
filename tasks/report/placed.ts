/** A batch's receipts, and where each of them stands in its tree. */
import type { TypedDataDomain } from "ethers";
import { ZeroHash } from "ethers";
import { receiptDigest, signedReceiptHash } from "../../oracle/protocol/messages";
import { usageOf, zeroUsage } from "../../oracle/protocol/meters";
import { packSiblings, SumTree, type Leaf } from "../../oracle/protocol/sumTree";
import type { BatchHeader } from "../../oracle/protocol/types";
import type { PlacedReceiptStruct, TreeLeafStruct } from "../../typechain-types/contracts/ReportCourt";
import { Problem, readReceipts, type FiledReceipt } from "../support";

/** A receipt of a batch, and its place there. */
export interface PlacedReceipt extends FiledReceipt {
  /** Its EIP-712 digest. */
  hash: string;
  leaf: Leaf;
  /** Among all of the batch, from 0. */
  index: number;
}

/** All receipts of a batch, in the order of its tree. */
export class BatchReceipts {
  private constructor(
    readonly all: PlacedReceipt[],
    /** The operator's signature of the batch, if the file has it. */
    readonly proposal: string | undefined,
    private readonly tree: SumTree,
  ) {}

  /** @throws Problem unless the file has all receipts of the batch, and its tree is made of them */
  static read(file: string, flag: string, domain: TypedDataDomain, header: BatchHeader): BatchReceipts {
    const { receipts, proposal } = readReceipts(file, flag);
    if (BigInt(receipts.length) !== header.count) {
      throw new Problem(
        `${flag} ${file} has ${receipts.length} receipts, and the batch ${header.count}: a path to one of them takes all. Have the others from another attestor, or of the operator.`,
      );
    }
    const leaves = receipts.map((one) => leafOf(domain, one));
    for (const order of [leaves, [...leaves].sort(byLicense)]) {
      const tree = SumTree.of(order.map(({ leaf }) => leaf));
      if (tree.root !== header.root) continue;
      return new BatchReceipts(
        order.map((one, index) => ({ ...one, index })),
        proposal,
        tree,
      );
    }
    throw new Problem(
      `The receipts of ${flag} ${file} don't make the tree of the batch, whose root is ${header.root}: one of them isn't its, or ` +
        "has another signature than was attested.",
    );
  }

  of(licenseId: bigint): PlacedReceipt[] {
    return this.all.filter(({ receipt }) => receipt.licenseId === licenseId);
  }

  /** As the court takes it. */
  place({ receipt, signature, index }: PlacedReceipt): PlacedReceiptStruct {
    return { receipt, signature, index, siblings: this.siblings(index) };
  }

  siblings(index: number): string {
    return packSiblings(this.tree.proofOf(index));
  }

  /** The two leaves that enclose those of a license, as the court takes them. */
  around(licenseId: bigint): { before: TreeLeafStruct; behind: TreeLeafStruct } {
    const before = this.all.filter(({ receipt }) => receipt.licenseId < licenseId).at(-1);
    const behind = this.all.find(({ receipt }) => receipt.licenseId > licenseId);
    return { before: this.leafAt(before), behind: this.leafAt(behind) };
  }

  private leafAt(placed: PlacedReceipt | undefined): TreeLeafStruct {
    if (placed === undefined)
      return { signedHash: ZeroHash, licenseId: 0, usage: zeroUsage(), index: 0, siblings: "0x" };
    const { leaf, index } = placed;
    const { signedReceiptHash: signedHash, licenseId, usage } = leaf;
    return { signedHash, licenseId, usage, index, siblings: this.siblings(index) };
  }
}

function leafOf(domain: TypedDataDomain, one: FiledReceipt): Omit<PlacedReceipt, "index"> {
  const hash = receiptDigest(domain, one.receipt);
  const leaf = {
    signedReceiptHash: signedReceiptHash(hash, one.signature),
    licenseId: one.receipt.licenseId,
    usage: usageOf(one.receipt),
  };
  return { ...one, hash, leaf };
}

function byLicense({ receipt: a }: FiledReceipt, { receipt: b }: FiledReceipt): number {
  const [first, second] = a.licenseId === b.licenseId ? [a.sequence, b.sequence] : [a.licenseId, b.licenseId];
  return first === second ? 0 : first < second ? -1 : 1;
}
