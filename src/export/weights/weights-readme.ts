/** The README of exported weights. */
import type { Published } from '../../backbones/index.js';
import { version } from '../../version.js';
import type { Loading } from './weights-loading.js';
import type { NetworkToWrite } from './weights-network.js';

export function weightsReadme(network: NetworkToWrite, published: Published, file: string, loading: Loading): string {
  const { backbone, published: own, weights } = network;
  const { python, input, output } = loading;
  const as = published === own ? '' : `, written as ${published.source}'s, which computes the same`;
  return `# Weights of ${backbone.name}

\`${file}\`: ${backbone.name} from ${own.source}${as}, by tl-toolkit ${version}.
The weights started from ${weights.origin} (${weights.license}).

${python.length === 0 ? nobody(published, file) : `\`\`\`python\n${python.join('\n')}\n\`\`\``}

- Input: ${input}
- Output: ${output}

\`loading.json\` holds these lines for programs, \`preprocessing.json\` the preprocessing in full.
${hints[published.dialect]}`;
}

const nobody = ({ source }: Published, file: string): string =>
  `Nobody publishes code for the names and layouts of the source ${source}: load \`${file}\` into your own network of\n` +
  'the same layers.';

const hints: Readonly<Record<Published['dialect'], string>> = {
  keras: `
The layers are in the order in which the model has them, by which Keras 2 and Keras 3 load an \`.h5\`; \`import tf_keras
as keras\` does as well.
`,
  slim: `
\`tf.train.load_checkpoint\` lists the variables; \`slim.assign_from_checkpoint_fn\` takes the same path. MobileNets: \`nets\`
is the folder research/slim/nets of github.com/tensorflow/models.
`,
  torch: `
\`load_state_dict\` is strict: every parameter and buffer is in the file.
`,
  flax: `
Names are those of Google's published files, which \`checkpoint.load\` translates; timm reads them too.
`,
};
