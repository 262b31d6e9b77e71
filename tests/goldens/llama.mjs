// llama.cpp's own answers, through the npm package node-llama-cpp (CPU):
//
//   node llama.mjs model.gguf questions.json answers.json
//
// questions: {"tokenize": [text, ...], "generate": [[token id, ...], ...], "steps": 64}
// answers:   {"tokenize": [[id, ...], ...]  (special tokens in the text are recognised),
//             "plain":    [[id, ...], ...]  (the same texts, special tokens read as plain text),
//             "generate": [[id, ...], ...]  (greedy continuations, ending with the end token if it came)}
import { readFileSync, writeFileSync } from "node:fs";
import { getLlama } from "node-llama-cpp";

const [gguf, questions, answers] = process.argv.slice(2);
const { tokenize, generate, steps } = JSON.parse(readFileSync(questions, "utf8"));
const llama = await getLlama({ gpu: false, build: "never" });
const model = await llama.loadModel({ modelPath: gguf });
const context = await model.createContext({ contextSize: 2048, threads: 2 });
const sequence = context.getSequence();

const generated = [];
for (const prompt of generate) {
    await sequence.clearHistory();
    const tokens = [];
    for await (const token of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
        tokens.push(token);
        if (model.isEogToken(token) || tokens.length === steps) break;
    }
    generated.push(tokens);
}
writeFileSync(answers, JSON.stringify({
    version: llama.llamaCppRelease,
    tokenize: tokenize.map((text) => Array.from(model.tokenize(text, true))),
    plain: tokenize.map((text) => Array.from(model.tokenize(text, false))),
    generate: generated,
}));
process.exit(0);
