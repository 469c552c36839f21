/** What a payer signs so that anybody may have its payment made: EIP-3009, with a nonce that says what is paid for. */
import { TypedDataEncoder, type Signer, type TypedDataDomain } from "ethers";

/** A purchase, as the escrow takes it. */
export interface Purchase {
  planId: number;
  operatorId: number;
  /** Whose the license will be. */
  to: string;
  capCode: number;
  /** Units of the currency that fund the license. */
  amount: bigint;
  /** The most that it may cost in all, in units of the currency. */
  maxPrice: bigint;
  /** Unix seconds, inclusive. */
  deadline: number;
}

/** A deposit for a license. */
export interface Deposit {
  licenseId: bigint;
  /** Whose the license is: nothing is paid while it is another's. */
  owner: string;
  /** Units of the currency. */
  amount: bigint;
}

/** A payment that its payer has signed, as the escrow takes it. */
export interface Authorization {
  from: string;
  /** Unix seconds, both exclusive. */
  validAfter: number;
  validBefore: number;
  /** 32 bytes that make the payment differ from another that is like it. */
  salt: string;
  signature: string;
}

const PURCHASE_TYPES = {
  Purchase: [
    { name: "planId", type: "uint32" },
    { name: "operatorId", type: "uint24" },
    { name: "to", type: "address" },
    { name: "capCode", type: "uint8" },
    { name: "amount", type: "uint64" },
    { name: "maxPrice", type: "uint64" },
    { name: "deadline", type: "uint40" },
    { name: "salt", type: "bytes32" },
  ],
};

const DEPOSIT_TYPES = {
  Deposit: [
    { name: "licenseId", type: "uint64" },
    { name: "owner", type: "address" },
    { name: "amount", type: "uint64" },
    { name: "salt", type: "bytes32" },
  ],
};

/** What EIP-3009 has a payer sign, for a payee that executes it. */
const RECEIVE_TYPES = {
  ReceiveWithAuthorization: [
    { name: "from", type: "address" },
    { name: "to", type: "address" },
    { name: "value", type: "uint256" },
    { name: "validAfter", type: "uint256" },
    { name: "validBefore", type: "uint256" },
    { name: "nonce", type: "bytes32" },
  ],
};

/** The nonce under which a payment buys this, and nothing else: `UsageEscrow.purchaseHash`. */
export const purchaseHash = (purchase: Purchase, salt: string): string =>
  TypedDataEncoder.hashStruct("Purchase", PURCHASE_TYPES, { ...purchase, salt });

/** The nonce under which a payment funds this, and nothing else: `UsageEscrow.depositHash`. */
export const depositHash = (deposit: Deposit, salt: string): string =>
  TypedDataEncoder.hashStruct("Deposit", DEPOSIT_TYPES, { ...deposit, salt });

export interface Payment {
  escrow: string;
  /** Units of the currency: exactly what is due. */
  value: bigint;
  /** Unix seconds, exclusive. */
  validBefore: number;
  /** `purchaseHash` or `depositHash` of what it is for. */
  nonce: string;
  /** The salt in it. */
  salt: string;
}

/** A payment to the escrow, signed by the payer's key. `domain` is the currency's. */
export async function signPayment(signer: Signer, domain: TypedDataDomain, payment: Payment): Promise<Authorization> {
  const { escrow, value, validBefore, nonce, salt } = payment;
  const from = await signer.getAddress();
  const message = { from, to: escrow, value, validAfter: 0, validBefore, nonce };
  return {
    from,
    validAfter: 0,
    validBefore,
    salt,
    signature: await signer.signTypedData(domain, RECEIVE_TYPES, message),
  };
}
