/**
 * Where publishers keep the files of their weights, a function a publisher: the addresses, sizes and checksums that their
 * own code states. `tools/golden/addresses.py` asks that code, and test/backbones/downloads.test.ts compares.
 */

/** A file in a repository of the Hugging Face hub. */
export interface HubFile {
  /** `timm/resnext101_32x4d.gluon_in1k`. */
  readonly repo: string;
  readonly file: string;
  /** A branch, tag or commit; `main` by default. */
  readonly revision?: string;
}

/** What is known of a file before it is fetched; each is left out where nobody states it. */
export interface KnownOfFile {
  /** Its exact size. */
  readonly bytes?: number;
  /** Its size in units of 2^20 bytes, rounded to three decimals. */
  readonly mebibytes?: number;
  /** 32 hexadecimal digits. */
  readonly md5?: string;
  /** 64 hexadecimal digits. */
  readonly sha256?: string;
  /** The first of the digits. */
  readonly sha256Prefix?: string;
  /** What the weights are called inside the archive that it is. */
  readonly member?: string;
}

/** A publisher's file of weights. */
export type Download = KnownOfFile &
  ({ readonly url: string; readonly hub?: never } | { readonly hub: HubFile; readonly url?: never });

const GOOGLE_STORAGE = 'https://storage.googleapis.com';

/**
 * keras.utils.get_file takes 64 digits for a sha256 and others for an md5; keras.applications gives none for MobileNet v1
 * and v2.
 */
const kerasHash = (digits: string | undefined): KnownOfFile =>
  digits === undefined ? {} : digits.length === 64 ? { sha256: digits } : { md5: digits };

/**
 * A file of keras.applications.
 * @param path below its storage: `resnet/resnet50_weights_tf_dim_ordering_tf_kernels.h5`
 * @param hash the `file_hash` of keras.applications
 */
export const kerasApplications = (path: string, hash?: string): Download => ({
  url: `${GOOGLE_STORAGE}/tensorflow/keras-applications/${path}`,
  ...kerasHash(hash),
});

/** A file of keras.applications.efficientnet, which have a storage of their own. */
export const kerasEfficientnet = (file: string, hash: string): Download => ({
  url: `${GOOGLE_STORAGE}/keras-applications/${file}`,
  ...kerasHash(hash),
});

/**
 * A file of a release on GitHub, where Keras kept its weights before it was a part of TensorFlow.
 * @param release owner, repository and tag: `keras-team/keras-applications/resnet`
 */
export function kerasRelease(release: string, file: string, hash: string): Download {
  const [owner, repository, tag] = release.split('/');
  return { url: `https://github.com/${owner}/${repository}/releases/download/${tag}/${file}`, ...kerasHash(hash) };
}

/**
 * torch.hub, HASH_REGEX: what stands between the first hyphen with hexadecimal digits behind it and the point is the
 * beginning of the sha256.
 */
const TORCH_HASH = /-([a-f0-9]*)\./;

/**
 * A file of torchvision: `url` and `_file_size` of its `WeightsEnum`.
 * @param mebibytes `_file_size`, which is in units of 2^20 bytes
 */
export const torchvisionFile = (file: string, mebibytes: number): Download => ({
  url: `https://download.pytorch.org/models/${file}`,
  sha256Prefix: TORCH_HASH.exec(file)![1]!,
  mebibytes,
});

/**
 * A model of timm on the Hugging Face hub, in the safetensors format: `HF_SAFE_WEIGHTS_NAME` of timm.models._hub. The hub
 * itself states size and sha256.
 * @param name with its tag: `tf_efficientnet_b0.in1k`
 */
export const timmHub = (name: string): Download => ({ hub: { repo: `timm/${name}`, file: 'model.safetensors' } });

/** Google's vision transformers: the bucket of the README of google-research/vision_transformer, which has no hashes. */
export const visionTransformers = (path: string): Download => ({ url: `${GOOGLE_STORAGE}/vit_models/${path}` });

/**
 * An archive of the README of tensorflow/models/research/slim, which has no hashes. Its addresses are
 * http://download.tensorflow.org/models/...; the same bucket has https under the name that TensorFlow's own
 * workspace2.bzl fetches it by.
 */
export const slimArchive = (file: string, known: KnownOfFile & { readonly member: string }): Download => ({
  url: `${GOOGLE_STORAGE}/download.tensorflow.org/models/${file}`,
  ...known,
});

/**
 * An archive of research/slim/nets/mobilenet/README.md, which has no hashes.
 * @param file `mobilenet_v2_1.0_224.tgz`
 */
export const mobilenetArchive = (
  version: 2 | 3,
  file: string,
  known: KnownOfFile & { readonly member: string },
): Download => ({ url: `${GOOGLE_STORAGE}/mobilenet_v${version}/checkpoints/${file}`, ...known });
