import { Refused, refuseUnless } from "./verdict";

/** Tags of ASN.1 that certificates, revocation lists and OCSP answers use. */
export const Tag = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  objectId: 0x06,
  enumerated: 0x0a,
  utcTime: 0x17,
  generalizedTime: 0x18,
  sequence: 0x30,
  set: 0x31,
  /** Context-specific and constructed, as `[n]` of the standards. */
  context: (number: number) => 0xa0 | number,
  /** Context-specific and primitive: `[n] IMPLICIT` of something simple. */
  contextPrimitive: (number: number) => 0x80 | number,
} as const;

/** An element of DER: its tag, its content, and all of its bytes as they were signed. */
export interface Element {
  tag: number;
  content: Buffer;
  whole: Buffer;
}

/** The one element that the bytes are. @throws Refused where it isn't DER, or something follows */
export function elementOf(bytes: Buffer, about: string): Element {
  const elements = elementsOf(bytes, about);
  refuseUnless(elements.length === 1, `${about} must be one DER element, and is ${elements.length}.`);
  return elements[0];
}

/** The elements that the bytes are, one after the other. DER has one way to write a length; others are refused. */
export function elementsOf(bytes: Buffer, about: string): Element[] {
  const elements: Element[] = [];
  let offset = 0;
  const next = () => {
    if (offset >= bytes.length) throw new Refused(`${about} is cut short at byte ${offset}: its DER goes on.`);
    return bytes[offset++];
  };
  while (offset < bytes.length) {
    const start = offset;
    const tag = next();
    refuseUnless(
      (tag & 0x1f) !== 0x1f,
      `${about} has a tag of several bytes at byte ${start}, which no certificate needs.`,
    );
    let length = next();
    if (length >= 0x80) {
      const width = length & 0x7f;
      refuseUnless(
        width >= 1 && width <= 3,
        `${about} has a length of ${width} bytes at byte ${start}: not DER, or far too long.`,
      );
      length = 0;
      for (let i = 0; i < width; i++) length = length * 256 + next();
      const least = width === 1 ? 0x80 : 256 ** (width - 1);
      refuseUnless(length >= least, `${about} writes a length longer than DER allows at byte ${start}.`);
    }
    refuseUnless(
      length <= bytes.length - offset,
      `${about} is cut short: ${length} bytes should follow byte ${offset}, and ${bytes.length - offset} do.`,
    );
    elements.push({
      tag,
      content: bytes.subarray(offset, offset + length),
      whole: bytes.subarray(start, offset + length),
    });
    offset += length;
  }
  return elements;
}

/** What is in an element that must have this tag. @throws Refused */
export function childrenOf(element: Element | undefined, tag: number, about: string): Element[] {
  return elementsOf(contentOf(element, tag, about), about);
}

export function contentOf(element: Element | undefined, tag: number, about: string): Buffer {
  if (element === undefined) throw new Refused(`${about} is missing.`);
  refuseUnless(
    element.tag === tag,
    `${about} has tag 0x${element.tag.toString(16)} where 0x${tag.toString(16)} belongs.`,
  );
  return element.content;
}

/** An object identifier as numbers with points. */
export function objectIdOf(element: Element | undefined, about: string): string {
  const content = contentOf(element, Tag.objectId, about);
  refuseUnless(content.length > 0 && content[content.length - 1] < 0x80, `${about} is no object identifier.`);
  const numbers: bigint[] = [];
  let value = 0n;
  for (const byte of content) {
    value = (value << 7n) | BigInt(byte & 0x7f);
    if (byte < 0x80) {
      numbers.push(value);
      value = 0n;
    }
  }
  const first = numbers[0] < 40n ? 0n : numbers[0] < 80n ? 1n : 2n;
  return [first, numbers[0] - first * 40n, ...numbers.slice(1)].join(".");
}

/** A whole number from zero on. */
export function naturalOf(element: Element | undefined, about: string, tag: number = Tag.integer): bigint {
  const content = contentOf(element, tag, about);
  refuseUnless(content.length > 0 && content[0] < 0x80, `${about} must be a whole number from 0 on.`);
  refuseUnless(
    content.length === 1 || content[0] !== 0 || content[1] >= 0x80,
    `${about} is written longer than DER allows.`,
  );
  return BigInt(`0x${content.toString("hex")}`);
}

export function smallNaturalOf(element: Element | undefined, about: string, tag: number = Tag.integer): number {
  const value = naturalOf(element, about, tag);
  refuseUnless(value < 2n ** 31n, `${about} is ${value}, which is too large.`);
  return Number(value);
}

export function booleanOf(element: Element, about: string): boolean {
  const content = contentOf(element, Tag.boolean, about);
  refuseUnless(content.length === 1 && (content[0] === 0 || content[0] === 0xff), `${about} must be a boolean.`);
  return content[0] === 0xff;
}

/** The bytes of a bit string that has whole bytes only. */
export function bitStringOf(element: Element | undefined, about: string): Buffer {
  const content = contentOf(element, Tag.bitString, about);
  refuseUnless(content.length > 0 && content[0] === 0, `${about} must be a bit string of whole bytes.`);
  return content.subarray(1);
}

const UTC_TIME = /^(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/;
const GENERALIZED_TIME = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/;

/** A moment in Unix seconds. */
export function timeOf(element: Element | undefined, about: string): number {
  const text = element?.content.toString("latin1") ?? "";
  const parts =
    element?.tag === Tag.utcTime
      ? UTC_TIME.exec(text)
      : element?.tag === Tag.generalizedTime
        ? GENERALIZED_TIME.exec(text)
        : null;
  if (parts === null) throw new Refused(`${about} is no time that X.509 knows.`);
  const [written, month, day, hour, minute, second] = parts.slice(1).map(Number);
  // RFC 5280: two digits from 50 on are of the twentieth century.
  const year = parts[1].length === 4 ? written : written < 50 ? 2000 + written : 1900 + written;
  const time = new Date(0);
  time.setUTCFullYear(year, month - 1, day);
  time.setUTCHours(hour, minute, second, 0);
  const same = time.getUTCMonth() === month - 1 && time.getUTCDate() === day && time.getUTCHours() === hour;
  refuseUnless(
    same && time.getUTCMinutes() === minute && time.getUTCSeconds() === second,
    `${about} is no time: ${text}.`,
  );
  return time.getTime() / 1_000;
}
