import {
  dateOf,
  flag,
  licenseId,
  optional,
  requireOne,
  send,
  sendingTask,
  text,
  Problem,
  type Session,
  type TaskRecord,
} from "../support";
import { accountOf } from "./show";

export interface CapLicense {
  license: bigint;
  /** The most a term, in whole units of the currency, or `none`. */
  cap?: string;
  /** Put a lower cap in force that was announced. */
  apply?: boolean;
}

const NO_CAP = "none";

/** Sets the licensee's own cap a term, or puts an announced lower one in force. */
export async function capLicense(session: Session, { license, cap, apply }: CapLicense): Promise<TaskRecord> {
  const { escrow } = session.licet;
  requireOne({ "--cap": cap, "--apply": apply });
  await accountOf(session, license);
  if (apply === true) await send(escrow.applyCapCut, license);
  else await send(escrow.setCap, license, cap === NO_CAP ? 0 : capCodeOf(cap!));
  return { license, ...(await capsOf(session, license)) };
}

/** The licensee's own cap, and a lower one that is on its way. */
export async function capsOf({ licet, money }: Session, license: bigint): Promise<TaskRecord> {
  const { capCode, capCutCode, capCutReadyAt } = await licet.escrow.accountOf(license);
  const sayCap = async (code: bigint) => (code === 0n ? "none" : money.of(await licet.escrow.capOf(code)));
  return {
    "own cap a term": await sayCap(capCode),
    "lower cap": capCutCode === 0n ? "none announced" : await sayCap(capCutCode),
    ...(capCutCode === 0n ? {} : { "lower cap may be applied": dateOf(capCutReadyAt) }),
  };
}

/** The highest cap code that stands for at most `value` whole units of the currency. */
export function capCodeOf(value: string): number {
  const whole = /^\d+(\.\d+)?$/.test(value) ? Math.floor(Number(value)) : NaN;
  if (!(whole >= SMALLEST_CAP && whole <= LARGEST_CAP)) {
    throw new Problem(
      `--cap must be ${SMALLEST_CAP} to ${LARGEST_CAP} whole units of the currency, or left out; it is "${value}".`,
    );
  }
  let code = 1;
  while (code < HIGHEST_CODE && capOfCode(code + 1) <= whole) code++;
  return code;
}

const capOfCode = (code: number): number => (8 | (code & 7)) * 2 ** (code >> 3);
const HIGHEST_CODE = 255;
const SMALLEST_CAP = capOfCode(1);
const LARGEST_CAP = capOfCode(HIGHEST_CODE);

sendingTask("license:cap", {
  about: "Sets your own cap a term of a license: a lower one is in force after a wait",
  example: "--license 1 --cap 50",
  parameters: {
    license: licenseId(),
    cap: optional(text(`Whole units of the currency, rounded down to one of 255 steps, or ${NO_CAP}`)),
    apply: flag("Put a lower cap in force that was announced, after its wait; anybody may"),
  },
  act: capLicense,
});
