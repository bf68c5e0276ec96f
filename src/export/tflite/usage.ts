/** How a program runs a TensorFlow Lite model: in Python, and on Android and iOS. */
import type { ExportRecord } from '../record.js';

export function tfliteUsage({ input, inputSize, channels, classes }: ExportRecord): string {
  const [type, kotlin] = input === 'pixels' ? ['uint8', 'uint8, 0..255'] : ['float32', 'float32'];
  const { height, width } = inputSize;
  return `Python (\`pip install ai-edge-litert numpy\`; with TensorFlow 2 it is \`tf.lite.Interpreter\`):
\`\`\`python
import numpy as np
from ai_edge_litert.interpreter import Interpreter

x = np.zeros((2, ${height}, ${width}, ${channels}), np.${type})  # your pictures, as below
interpreter = Interpreter("model.tflite")
interpreter.resize_tensor_input(interpreter.get_input_details()[0]["index"], x.shape)
run = interpreter.get_signature_runner("serving_default")
probabilities = run(input=x)["probabilities"]  # [N, ${classes.length}], in the order of labels.txt; "logits" before the softmax
\`\`\`
Android (\`com.google.ai.edge.litert:litert\`, or \`org.tensorflow:tensorflow-lite\`), Kotlin:
\`\`\`kotlin
val interpreter = Interpreter(modelFile) // a File
val x: ByteBuffer = preprocess(bitmap) // direct, native order: [1, ${height}, ${width}, ${channels}], ${kotlin}
val probabilities = Array(1) { FloatArray(${classes.length}) }
val logits = Array(1) { FloatArray(${classes.length}) }
interpreter.runSignature(mapOf("input" to x), mapOf("probabilities" to probabilities, "logits" to logits))
\`\`\`
iOS (\`TensorFlowLiteSwift\`), Swift:
\`\`\`swift
let interpreter = try Interpreter(modelPath: modelPath)
try interpreter.allocateTensors()
try interpreter.copy(x, toInputAt: 0) // Data: [1, ${height}, ${width}, ${channels}], ${kotlin}
try interpreter.invoke()
let probabilities = try interpreter.output(at: 0).data.withUnsafeBytes { Array($0.bindMemory(to: Float32.self)) }
\`\`\`
The file carries TensorFlow Lite's metadata: the labels, and mean and standard deviation of its input.
`;
}
