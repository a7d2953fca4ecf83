// safetensors as the API sends them: eight bytes of length, a header of JSON, then numbers as they lie in memory.

// Float16Array is too young for many browsers: all 65,536 halves stand in a table, made once.
let halves = null;

/** Floats of all half-precision numbers by their bits (IEEE 754, binary16). @returns {Float32Array} */
export function halfTable() {
  if (halves) return halves;
  halves = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const power = (bits >> 10) & 31;
    const part = bits & 1023;
    if (power === 31) halves[bits] = part ? NaN : sign * Infinity;
    else halves[bits] = sign * (power ? 2 ** (power - 15) * (1 + part / 1024) : part * 2 ** -24);
  }
  return halves;
}

/** A buffer as tensors. F16 comes as Float32Array. @param {ArrayBuffer} buffer
 * @returns {{tensors: Object<string, {dtype: string, shape: number[], data: any}>, glass: Object<string, any>}} */
export function decode(buffer) {
  const size = Number(new DataView(buffer).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(new Uint8Array(buffer, 8, size)));
  const glass = header.__metadata__?.glass ? JSON.parse(header.__metadata__.glass) : {};
  const tensors = {};
  delete header.__metadata__;
  for (const [name, { dtype, shape, data_offsets: [from, to] }] of Object.entries(header)) {
    tensors[name] = { dtype, shape, data: numbers(dtype, buffer.slice(8 + size + from, 8 + size + to)) };
  }
  return { tensors, glass };
}

const KINDS = { U8: Uint8Array, I32: Int32Array, I64: BigInt64Array, F32: Float32Array, F64: Float64Array };

function numbers(dtype, bytes) {
  if (dtype === "F16") {
    const table = halfTable();
    const bits = new Uint16Array(bytes);
    const values = new Float32Array(bits.length); // a loop, as Float32Array.from takes ten times as long for a million
    for (let i = 0; i < bits.length; i++) values[i] = table[bits[i]];
    return values;
  }
  if (!KINDS[dtype]) throw new Error(`safetensors: found dtype ${dtype}, wanted ${Object.keys(KINDS)} or F16`);
  return new KINDS[dtype](bytes);
}

/** Where row i of a lower triangle begins, which holds i + 1 numbers. @param {number} i */
export const trilStart = (i) => (i * (i + 1)) / 2;
