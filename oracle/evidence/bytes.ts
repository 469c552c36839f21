import { Refused, refuseUnless } from "./verdict";

/** Reads little-endian structures from beginning to end. What is missing, or left over, is refused with its place. */
export class Reader {
  private offset = 0;

  /** @param about the structure, as a sentence begins with it */
  constructor(
    private readonly bytes: Buffer,
    private readonly about: string,
  ) {}

  get position(): number {
    return this.offset;
  }

  take(length: number, field: string): Buffer {
    const left = this.bytes.length - this.offset;
    refuseUnless(
      length <= left,
      `${this.about} is cut short: ${field} needs ${length} bytes at byte ${this.offset}, and ${left} are left. Send it whole.`,
    );
    this.offset += length;
    return this.bytes.subarray(this.offset - length, this.offset);
  }

  u8(field: string): number {
    return this.take(1, field).readUInt8();
  }

  u16(field: string): number {
    return this.take(2, field).readUInt16LE();
  }

  u24(field: string): number {
    return this.take(3, field).readUIntLE(0, 3);
  }

  u32(field: string): number {
    return this.take(4, field).readUInt32LE();
  }

  u64(field: string): bigint {
    return this.take(8, field).readBigUInt64LE();
  }

  /** @throws Refused where a byte isn't zero: a meaning that this version doesn't know */
  zeros(length: number, field: string): void {
    const at = this.offset;
    refuseUnless(
      this.take(length, field).every((byte) => byte === 0),
      `${this.about} has something in ${field} (bytes ${at} to ${at + length - 1}), which must be zero: its format is newer than ` +
        `this verifier, or it was altered.`,
    );
  }

  /** @throws Refused where bytes are left */
  end(): void {
    const left = this.bytes.length - this.offset;
    refuseUnless(
      left === 0,
      `${this.about} ends at byte ${this.offset}, and ${left} more follow. Send it without them.`,
    );
  }
}

export const hexOf = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

/** The bytes of hex in small letters, without 0x. There is one way to write them. */
export function bytesOfHex(text: string, about: string): Buffer {
  refuseUnless(/^([0-9a-f]{2})*$/.test(text), `${about} must be hex in small letters, without 0x.`);
  return Buffer.from(text, "hex");
}

/** The bytes of base64 as encoders write it: padded, without spaces. There is one way to write them. */
export function bytesOfBase64(text: string, about: string): Buffer {
  const bytes = Buffer.from(text, "base64");
  refuseUnless(bytes.toString("base64") === text, `${about} must be base64, padded and in one line.`);
  return bytes;
}

/** The bytes of base64url without padding, as JWTs have it. There is one way to write them. */
export function bytesOfBase64Url(text: string, about: string): Buffer {
  const bytes = Buffer.from(text, "base64url");
  refuseUnless(bytes.toString("base64url") === text, `${about} must be base64url without padding.`);
  return bytes;
}

/** An object of exactly these fields. @throws Refused */
export function fieldsOf<Name extends string>(
  value: unknown,
  names: readonly Name[],
  about: string,
  optional: readonly Name[] = [],
): Record<Name, unknown> {
  refuseUnless(typeof value === "object" && value !== null && !Array.isArray(value), `${about} must be an object.`);
  for (const name of Object.keys(value)) {
    refuseUnless(
      (names as readonly string[]).includes(name),
      `${about} has a field ${JSON.stringify(name)}, which means nothing here.`,
    );
  }
  for (const name of names) {
    refuseUnless(optional.includes(name) || Object.hasOwn(value, name), `${about} has no field ${name}.`);
  }
  return value as Record<Name, unknown>;
}

export function textOf(value: unknown, about: string): string {
  if (typeof value !== "string") throw new Refused(`${about} must be text.`);
  return value;
}
