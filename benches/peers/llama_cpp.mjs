// llama.cpp beside keraunos: SmolLM2-135M reads 512 tokens at once, then writes 128, in turns.
//
//     cargo build --release --manifest-path benches/peers/Cargo.toml
//     cd benches/peers && npm install --no-save node-llama-cpp@3.22.1 && node llama_cpp.mjs MODEL.gguf [cpu|vulkan] [rounds] [case]
//
// As many threads as there are cores, or all layers on the graphics card. First both say the next token of some
// phrases: llama.cpp rounds activations to 8 bits, so they may part where two tokens nearly tie, but not often.
import {spawn} from "node:child_process";
import {availableParallelism} from "node:os";
import {createInterface} from "node:readline";
import {fileURLToPath} from "node:url";
import {getLlama} from "node-llama-cpp";

const PREFILL = 512, DECODE = 128;
const PHRASES = ["The capital of France is the city of", "Monday, Tuesday, Wednesday,", "The sun rises in the", "Once upon a",
    "Water freezes at 0 degrees", "a, b, c, d, e, f,", "The opposite of hot is", "One, two, three, four, five,"];
const ALIKE = 7;
const [path, gpu = "cpu", rounds = "7", only] = process.argv.slice(2);
const threads = availableParallelism();

const folder = process.env.CARGO_TARGET_DIR ?? fileURLToPath(new URL("target", import.meta.url));
const serve = spawn(`${folder}/release/peers`, ["serve"], {stdio: ["pipe", "pipe", "inherit"]});
const answers = createInterface({input: serve.stdout})[Symbol.asyncIterator]();
async function ask(...words) {
    serve.stdin.write(words.join(" ") + "\n");
    const {value, done} = await answers.next();
    if (done || value.startsWith("error:")) throw new Error(`keraunos: ${value ?? "ended"}`);
    return value;
}

const llama = await getLlama({gpu: gpu === "vulkan" ? "vulkan" : false, build: "never", logLevel: "error", maxThreads: threads});
const model = await llama.loadModel({modelPath: path, gpuLayers: gpu === "vulkan" ? "max" : 0});
const context = await model.createContext({contextSize: 1024, batchSize: PREFILL, threads});
const sequence = context.getSequence();

async function greedy(tokens, count) {
    await sequence.clearHistory();
    const written = [];
    for await (const token of sequence.evaluate(tokens, {temperature: 0, yieldEogToken: true})) {
        written.push(Number(token));
        if (written.length >= count) break;
    }
    return written;
}

let alike = 0;
for (const phrase of PHRASES) {
    const tokens = Array.from(model.tokenize(phrase), Number);
    const [theirs] = await greedy(tokens, 1);
    if (theirs === Number(await ask("greedy", tokens.join(","), 1))) alike++;
}
if (alike < ALIKE) throw new Error(`another model: ${alike} of ${PHRASES.length} phrases go on alike`);

const prompt = Array.from({length: PREFILL}, (_, n) => 1000 + 37 * n);
const runs = {
    [`prefill-${PREFILL}`]: async () => {
        await sequence.clearHistory();
        await sequence.evaluateWithoutGeneratingNewTokens(prompt);
    },
    [`decode-${DECODE}`]: () => greedy([1234], DECODE),
};
const median = values => values.toSorted((a, b) => a - b)[values.length >> 1];

console.log(`${await ask("adapter")}; llama.cpp of node-llama-cpp 3.22.1 on ${llama.gpu || `the processor, ${threads} threads`}; ` +
    `${alike} of ${PHRASES.length} phrases go on alike\n`);
console.log("| case | engine | tokens/s, median | most | its time / keraunos' |");
console.log("|---|---|---:|---:|---:|");
if (only && !runs[only]) throw new Error(`no case ${only}, but ${Object.keys(runs).join(" and ")}`);
for (const [name, run] of Object.entries(runs).filter(([name]) => !only || name === only)) {
    const tokens = Number(name.split("-")[1]);
    const times = Number(await ask("warm", name));
    await run();
    await run();
    const turns = [[], []];
    const turn = [
        async () => turns[0].push(Number(await ask("time", name, times))),
        async () => {
            const start = performance.now();
            await run();
            turns[1].push((performance.now() - start) / 1000);
        },
    ];
    for (let round = 0; round < Number(rounds); round++) {
        for (const n of round % 2 ? [1, 0] : [0, 1]) await turn[n]();
    }
    const ratios = turns[1].map((seconds, n) => seconds / turns[0][n]);
    ["keraunos", "llama.cpp"].forEach((engine, n) => console.log(`| ${name} | ${engine} | ${(tokens / median(turns[n])).toFixed(1)} ` +
        `| ${(tokens / Math.min(...turns[n])).toFixed(1)} | ${n ? median(ratios).toFixed(2) : "1.00"} |`));
}
serve.stdin.end();
process.exit(0);
