import type { LicenseRegistry } from "../../../typechain-types";
import type { PlanTermsStructOutput } from "../../../typechain-types/contracts/LicenseRegistry";
import { nothing, type Reducer } from "./reducer";

interface License {
  owner: string;
  movableAt: bigint;
}

/** LicenseRegistry's books, by its logs. Its views are named as the contract's. */
export class ReplayedLicenses {
  private readonly terms = new Map<bigint, PlanTermsStructOutput>();
  private readonly sales = new Map<bigint, { sold: bigint; closed: boolean }>();
  private readonly licenses = new Map<bigint, License>();

  readonly on: Reducer<LicenseRegistry> = {
    PlanCreated: ({ planId, terms }) => {
      this.terms.set(planId, terms);
      this.sales.set(planId, { sold: 0n, closed: false });
    },
    PlanClosed: ({ planId }) => {
      this.salesOf(planId).closed = true;
    },
    LicenseMinted: ({ planId }) => {
      this.salesOf(planId).sold += 1n;
    },
    LicensePlanChanged: ({ planId }) => {
      this.salesOf(planId).sold += 1n;
    },
    // A transfer uses up the lock that allowed it.
    Transfer: ({ to, tokenId }) => {
      this.licenses.set(tokenId, { owner: to, movableAt: 0n });
    },
    LicenseMovable: ({ licenseId, movableAt }) => {
      this.licenses.get(licenseId)!.movableAt = movableAt;
    },
    OfferAccepted: nothing,
    OfferWithdrawn: nothing,
    Approval: nothing,
    ApprovalForAll: nothing,
    AuthorityUpdated: nothing,
    EIP712DomainChanged: nothing,
  };

  planIds(): bigint[] {
    return [...this.terms.keys()];
  }

  licenseIds(): bigint[] {
    return [...this.licenses.keys()];
  }

  // Views

  termsOf(planId: bigint): PlanTermsStructOutput {
    return this.terms.get(planId)!;
  }

  salesOf(planId: bigint) {
    return this.sales.get(planId)!;
  }

  ownerOf(licenseId: bigint): string {
    return this.licenses.get(licenseId)!.owner;
  }

  movableAt(licenseId: bigint): bigint {
    return this.licenses.get(licenseId)!.movableAt;
  }
}
