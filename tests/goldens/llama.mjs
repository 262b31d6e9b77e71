// llama.cpp's own answers, through the npm package node-llama-cpp (CPU):
//
//   node llama.mjs model.gguf questions.json answers.json
//
// questions: {"tokenize": [text, ...], "generate": [[token id, ...], ...], "steps": 64, "score": [[token id, ...], ...]}
// answers:   {"tokenize": [[id, ...], ...]  (special tokens in the text are recognised),
//             "plain":    [[id, ...], ...]  (the same texts, special tokens read as plain text),
//             "generate": [[id, ...], ...]  (greedy continuations, ending with the end token if it came),
//             "score":    [[loss, ...], ...]  (-log of the probability of each token after the first half of its text)}
import { readFileSync, writeFileSync } from "node:fs";
import { getLlama } from "node-llama-cpp";

const [gguf, questions, answers] = process.argv.slice(2);
const { tokenize, generate, steps, score = [] } = JSON.parse(readFileSync(questions, "utf8"));
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
const losses = [];
for (const ids of score) {
    await sequence.clearHistory();
    const first = Math.floor(ids.length / 2);
    const asked = ids.map((id, i) => (i < first || i === ids.length - 1 ? id : [id, { generateNext: { probabilities: true } }]));
    const own = [];
    await sequence.controlledEvaluate(asked, {
        onTokenResult(i, result) {
            own[i - first] = -Math.log(result.next.probabilities.get(ids[i + 1]));
        },
    });
    losses.push(own);
}
writeFileSync(answers, JSON.stringify({
    version: llama.llamaCppRelease,
    tokenize: tokenize.map((text) => Array.from(model.tokenize(text, true))),
    plain: tokenize.map((text) => Array.from(model.tokenize(text, false))),
    generate: generated,
    score: losses,
}));
process.exit(0);
