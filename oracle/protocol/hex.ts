/** In lower case, after 0x. */
export function hexOf(bytes: Uint8Array): string {
  return `0x${Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString("hex")}`;
}

/** Of hex after 0x, which must be well-formed. */
export function bytesOfHex(hex: string): Buffer {
  return Buffer.from(hex.slice(2), "hex");
}
