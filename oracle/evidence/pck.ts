import { hexOf } from "./bytes";
import type { Certificate } from "./certificates";
import { childrenOf, contentOf, type Element, elementOf, objectIdOf, smallNaturalOf, Tag } from "./der";
import { refuseUnless } from "./verdict";

/** What Intel certified of a platform, in the extension of its key's certificate (PCK). */
export interface Platform {
  /** Its family and model, in small hex, and the provisioning enclave's id. */
  fmspc: string;
  pceId: string;
  /** Security versions of 16 components, and of the provisioning enclave. */
  components: number[];
  pceSvn: number;
  /** Names of this platform. */
  devices: string[];
}

const SGX = "1.2.840.113741.1.13.1";
const COMPONENTS = Array.from({ length: 16 }, (_, index) => index + 1);
const ABOUT = "The platform certificate's extension";

export function platformOf(pck: Certificate): Platform {
  const extension = pck.extensions.get(SGX);
  refuseUnless(
    extension !== undefined,
    `${pck.name} isn't a platform's certificate: it lacks Intel's extension ${SGX}.`,
  );
  const fields = fieldsOf(elementOf(extension, ABOUT));
  const tcb = fieldsOf(fields.get(`${SGX}.2`));
  const bytes = (element: Element | undefined, length: number) => {
    const content = contentOf(element, Tag.octetString, ABOUT);
    refuseUnless(content.length === length, `${ABOUT} has a field of ${content.length} bytes where ${length} belong.`);
    return content;
  };
  return {
    fmspc: hexOf(bytes(fields.get(`${SGX}.4`), 6)),
    pceId: hexOf(bytes(fields.get(`${SGX}.3`), 2)),
    components: COMPONENTS.map((component) => smallNaturalOf(tcb.get(`${SGX}.2.${component}`), ABOUT)),
    pceSvn: smallNaturalOf(tcb.get(`${SGX}.2.17`), ABOUT),
    devices: [
      `intel-ppid:${hexOf(bytes(fields.get(`${SGX}.1`), 16))}`,
      // Platforms of several packages have an id of the whole.
      ...(fields.has(`${SGX}.6`) ? [`intel-platform:${hexOf(bytes(fields.get(`${SGX}.6`), 16))}`] : []),
    ],
  };
}

function fieldsOf(element: Element | undefined): Map<string, Element> {
  const fields = new Map<string, Element>();
  for (const field of childrenOf(element, Tag.sequence, ABOUT)) {
    const [id, value] = childrenOf(field, Tag.sequence, ABOUT);
    const name = objectIdOf(id, ABOUT);
    refuseUnless(!fields.has(name), `${ABOUT} has the field ${name} twice.`);
    fields.set(name, value);
  }
  return fields;
}
