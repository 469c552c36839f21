import { getBytes, hexlify } from "ethers";
import { keccak } from "./keccak";
import { usageBy } from "./meters";
import { METERS, type Usage } from "./types";

/** A receipt's place in a batch's tree. */
export interface Leaf {
  /** Of the receipt as it is signed: see `signedReceiptHash`. */
  signedReceiptHash: string;
  licenseId: bigint;
  usage: Usage;
}

/** A leaf that is hashed already. */
export interface HashedLeaf {
  /** As `leafHash` gives it: 32 bytes. */
  hash: Uint8Array;
  usage: Usage;
}

export interface SumProof {
  /** The leaf's place among all, from 0. */
  index: number;
  /** What stands beside the path, from the leaf upwards. Where a node was promoted, nothing does. */
  siblings: { hash: string; sums: Usage }[];
}

/** What a batch's header says of its tree. */
export interface SumRoot {
  root: string;
  totals: Usage;
  count: bigint;
}

const HASH_BYTES = 32;
const SUM_BYTES = 8;
const NODE_BYTES = HASH_BYTES + SUM_BYTES * METERS.length;
const HALF_SUM_RANGE = 2 ** 32;
const HALF_RANGE = BigInt(HALF_SUM_RANGE);

const LEAF_TAG = 0;
const NODE_TAG = 1;
const ROOT_TAG = 2;

/**
 * The Merkle sum tree over a batch's receipts: every node is a hash and the five sums below it, and commits to both of
 * its children's. Levels are flat buffers of 72-byte nodes.
 */
export class SumTree implements SumRoot {
  readonly root: string;
  readonly totals: Usage;
  readonly count: bigint;

  private constructor(private readonly levels: Buffer[]) {
    const top = levels[levels.length - 1];
    this.count = BigInt(levels[0].length / NODE_BYTES);
    this.totals = readSums(top);
    this.root = hexlify(rootHash(top, this.count));
  }

  /** Throws RangeError unless there is a leaf and every sum fits in a uint64. The caller sorts by license and sequence. */
  static of(leaves: readonly Leaf[]): SumTree {
    return SumTree.ofHashed(leaves.map((leaf) => ({ hash: leafHash(leaf), usage: leaf.usage })));
  }

  /** Throws RangeError as `of` does. */
  static ofHashed(leaves: readonly HashedLeaf[]): SumTree {
    if (leaves.length === 0) throw new RangeError("a sum tree needs at least one leaf");
    const lowest = Buffer.allocUnsafe(leaves.length * NODE_BYTES);
    leaves.forEach((leaf, place) => writeNode(lowest, place * NODE_BYTES, leaf.hash, leaf.usage));
    const levels: Buffer[] = [lowest];
    while (levels[0].length > NODE_BYTES) levels.unshift(levelAbove(levels[0]));
    return new SumTree(levels.reverse());
  }

  /** What proves the leaf at `index` to whoever knows the header. */
  proofOf(index: number): SumProof {
    if (!Number.isInteger(index) || index < 0 || index >= Number(this.count)) {
      throw new RangeError(`leaf ${index} isn't among the tree's ${this.count}`);
    }
    const siblings = this.levels.slice(0, -1).flatMap((level, height) => {
      const sibling = nodeAt(level, siblingOf(index >> height));
      return sibling.length === 0 ? [] : [{ hash: hexlify(sibling.subarray(0, HASH_BYTES)), sums: readSums(sibling) }];
    });
    return { index, siblings };
  }
}

/** A path as courts take it: 72 bytes a node, from the leaf upwards, in hex. */
export function packSiblings({ siblings }: SumProof): string {
  return hexlify(Buffer.concat(siblings.map(({ hash, sums }) => nodeOf(getBytes(hash), sums))));
}

/** Whether the leaf stands in the tree that the header describes. Malformed proofs are simply false. */
export function verifyInclusion({ root, totals, count }: SumRoot, leaf: Leaf, proof: SumProof): boolean {
  try {
    const top = climb(nodeOf(leafHash(leaf), leaf.usage), proof, Number(count));
    return top.equals(nodeOf(top.subarray(0, HASH_BYTES), totals)) && hexlify(rootHash(top, count)) === root;
  } catch (error) {
    if (error instanceof RangeError || error instanceof TypeError) return false;
    throw error;
  }
}

function climb(leaf: Buffer, { index, siblings }: SumProof, count: number): Buffer {
  if (!Number.isInteger(index) || index < 0 || index >= count) throw new RangeError(`no leaf ${index} of ${count}`);
  const remaining = [...siblings];
  let node: Buffer = leaf;
  for (let place = index, width = count; width > 1; place >>= 1, width = (width + 1) >> 1) {
    if (siblingOf(place) >= width) continue;
    const beside = remaining.shift();
    if (beside === undefined) throw new RangeError("the proof is too short");
    const sibling = nodeOf(getBytes(beside.hash), beside.sums);
    node = place % 2 === 0 ? join(node, sibling) : join(sibling, node);
  }
  if (remaining.length > 0) throw new RangeError("the proof is too long");
  return node;
}

function siblingOf(place: number): number {
  return place ^ 1;
}

function levelAbove(level: Buffer): Buffer {
  const width = level.length / NODE_BYTES;
  const above = Buffer.allocUnsafe(Math.ceil(width / 2) * NODE_BYTES);
  for (let place = 0; place + 1 < width; place += 2) {
    writeParent(above, (place / 2) * NODE_BYTES, level.subarray(place * NODE_BYTES, (place + 2) * NODE_BYTES));
  }
  if (width % 2 === 1) level.copy(above, above.length - NODE_BYTES, level.length - NODE_BYTES);
  return above;
}

/** The node at a place, empty beyond the level's end. */
function nodeAt(level: Buffer, place: number): Buffer {
  return level.subarray(place * NODE_BYTES, (place + 1) * NODE_BYTES);
}

function nodeOf(hash: Uint8Array, sums: Usage): Buffer {
  const node = Buffer.alloc(NODE_BYTES);
  writeNode(node, 0, hash, sums);
  return node;
}

function writeNode(level: Buffer, at: number, hash: Uint8Array, sums: Usage): void {
  if (hash.length !== HASH_BYTES) throw new RangeError(`a node's hash has ${HASH_BYTES} bytes, not ${hash.length}`);
  level.set(hash, at);
  for (let m = 0; m < METERS.length; m++) writeUint64(level, sums[METERS[m]], at + sumOffset(m));
}

/** Most are below 2^32: those are written without more bigints. */
function writeUint64(bytes: Buffer, value: bigint, at: number): void {
  if (value < 0n || value >= HALF_RANGE) return void bytes.writeBigUInt64BE(value, at);
  bytes.writeUInt32BE(0, at);
  bytes.writeUInt32BE(Number(value), at + 4);
}

const leafPreimage = Buffer.alloc(1 + HASH_BYTES + 8 + SUM_BYTES * METERS.length, LEAF_TAG);

/** Throws RangeError unless the signed receipt's hash has 32 bytes and every number fits in a uint64. */
export function leafHash({ signedReceiptHash, licenseId, usage }: Leaf): Uint8Array {
  const length = leafPreimage.write(signedReceiptHash.slice(2), 1, HASH_BYTES, "hex");
  if (length !== HASH_BYTES) throw new RangeError(`a receipt's hash has ${HASH_BYTES} bytes, not ${length}`);
  leafPreimage.writeBigUInt64BE(licenseId, 1 + HASH_BYTES);
  for (let m = 0; m < METERS.length; m++) {
    leafPreimage.writeBigUInt64BE(usage[METERS[m]], 1 + HASH_BYTES + 8 + SUM_BYTES * m);
  }
  return keccak(leafPreimage);
}

const nodePreimage = Buffer.alloc(1 + 2 * NODE_BYTES, NODE_TAG);

function join(left: Buffer, right: Buffer): Buffer {
  const node = Buffer.allocUnsafe(NODE_BYTES);
  writeParent(node, 0, Buffer.concat([left, right]));
  return node;
}

/** @param children two nodes side by side */
function writeParent(level: Buffer, at: number, children: Buffer): void {
  nodePreimage.set(children, 1);
  level.set(keccak(nodePreimage), at);
  for (let m = 0; m < METERS.length; m++) addUint64(level, at + sumOffset(m), children, sumOffset(m));
}

function rootHash(top: Buffer, count: bigint): Uint8Array {
  const preimage = Buffer.alloc(1 + NODE_BYTES + 8, ROOT_TAG);
  preimage.set(top, 1);
  preimage.writeBigUInt64BE(count, 1 + NODE_BYTES);
  return keccak(preimage);
}

/**
 * Adds the sums of two children. In halves, since a bigint for each of a million sums would cost more than the hashes.
 * @param offset of the left one's sum
 */
function addUint64(target: Buffer, at: number, children: Buffer, offset: number): void {
  const right = NODE_BYTES + offset;
  const low = children.readUInt32BE(offset + 4) + children.readUInt32BE(right + 4);
  const high = children.readUInt32BE(offset) + children.readUInt32BE(right) + Math.floor(low / HALF_SUM_RANGE);
  if (high >= HALF_SUM_RANGE) throw new RangeError("a sum of the tree exceeds a uint64");
  target.writeUInt32BE(high, at);
  target.writeUInt32BE(low % HALF_SUM_RANGE, at + 4);
}

function readSums(node: Buffer): Usage {
  return usageBy((meter) => node.readBigUInt64BE(sumOffset(METERS.indexOf(meter))));
}

function sumOffset(meterIndex: number): number {
  return HASH_BYTES + SUM_BYTES * meterIndex;
}
