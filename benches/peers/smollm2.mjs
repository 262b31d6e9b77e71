// llama.cpp's speed with SmolLM2 on this processor, beside that of `cargo bench --bench models`.
//
//     npm install node-llama-cpp@3.22.1 && node smollm2.mjs MODEL.gguf [threads]
//
// The same 128 tokens of prompt, least of four runs; then 48 tokens decoded greedily.
import {getLlama} from "node-llama-cpp";

const [path, threads = "2"] = process.argv.slice(2);
const llama = await getLlama({gpu: false, logLevel: "error", maxThreads: Number(threads)});
const model = await llama.loadModel({modelPath: path});
const context = await model.createContext({contextSize: 512, threads: Number(threads)});
const sequence = context.getSequence();

const prompt = Array.from({length: 128}, (_, n) => 1000 + 37 * n);
let prefill = Infinity;
for (let run = 0; run < 4; run++) {
    await sequence.clearHistory();
    const start = performance.now();
    await sequence.evaluateWithoutGeneratingNewTokens(prompt);
    prefill = Math.min(prefill, performance.now() - start);
}
console.log(`prefill of 128 tokens  ${(128_000 / prefill).toFixed(1)} tok/s`);

let count = 0;
const start = performance.now();
for await (const _ of sequence.evaluate([1234], {temperature: 0, yieldEogToken: true})) {
    if (++count >= 48) break;
}
console.log(`decoding after 128     ${(count * 1000 / (performance.now() - start)).toFixed(1)} tok/s`);
process.exit(0);
