/**
 * What is requested for a publisher's file: its own address, that of a mirror, or that of a hub.
 *
 *   TL_MIRROR    a base address that takes the place of scheme and host: https://mirror.example/tl makes
 *                https://mirror.example/tl/<host>/<path> of https://<host>/<path>
 *   HF_ENDPOINT  the Hugging Face hub to ask, as for Hugging Face's own clients; it goes before TL_MIRROR
 *   HF_TOKEN     an access token, which is sent to the hub alone
 */
import type { Download, HubFile } from '../../backbones/index.js';
import { UsageError } from '../../errors.js';

export type Environment = Readonly<Record<string, string | undefined>>;

/** Something to request, with what its own host is told and no other. */
export interface Address {
  /** Without a user's name or password. */
  readonly url: string;
  /** Of HTTP's Authorization. */
  readonly authorization?: string;
}

/** @see https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables, HF_ENDPOINT */
const HUB = 'https://huggingface.co';

/** The publisher's own address of a file, whatever it is fetched from. */
export function publishersAddress(download: Download): string {
  if (download.url !== undefined) return download.url;
  const { repo, file, revision = 'main' } = download.hub;
  return `${HUB}/${repo}/resolve/${encodeURIComponent(revision)}/${file}`;
}

/** The name of the file itself: the last part of its address. */
export function fileName(download: Download): string {
  return decodeURIComponent(new URL(publishersAddress(download)).pathname.split('/').at(-1)!);
}

/**
 * Where an address is asked for.
 * @throws MIRROR_INVALID
 */
export function mirrored(url: string, env: Environment): Address {
  const mirror = env.TL_MIRROR;
  if (!mirror) return { url };
  const { host, pathname, search } = new URL(url);
  const base = baseOf('TL_MIRROR', mirror);
  return { ...base, url: `${base.url}/${host}${pathname}${search}` };
}

/** A hub, and the access token that it is told. */
export interface HubAddress {
  /** Without a slash at its end. */
  readonly base: Address;
  readonly accessToken?: string;
}

/**
 * The hub to ask. A mirror of `TL_MIRROR` is not told the access token, which is of the hub.
 * @throws MIRROR_INVALID, HF_TOKEN_INVALID
 */
export function hubAddress(env: Environment): HubAddress {
  if (!env.HF_ENDPOINT && env.TL_MIRROR) return { base: withoutSlash(mirrored(HUB, env)) };
  const base = env.HF_ENDPOINT ? baseOf('HF_ENDPOINT', env.HF_ENDPOINT) : { url: HUB };
  const accessToken = env.HF_TOKEN?.trim();
  if (!accessToken) return { base };
  if (!accessToken.startsWith('hf_')) {
    // @huggingface/hub, checkAccessToken
    throw new UsageError({
      code: 'HF_TOKEN_INVALID',
      message: 'HF_TOKEN: expected an access token that begins with hf_, received something else',
      hint: 'copy it from https://huggingface.co/settings/tokens, or unset HF_TOKEN: public files need none',
    });
  }
  return { base, accessToken };
}

/** The path of an address without one is a slash. */
const withoutSlash = (address: Address): Address => ({ ...address, url: address.url.replace(/\/$/, '') });

/** A file's address on a hub, for people. */
export const onHub = ({ base }: HubAddress, { repo, file, revision = 'main' }: HubFile): string =>
  `${base.url}/${repo}/resolve/${revision}/${file}`;

function baseOf(variable: string, text: string): Address {
  const url = URL.canParse(text) ? new URL(text) : undefined;
  if (url === undefined || !['http:', 'https:'].includes(url.protocol) || url.search !== '' || url.hash !== '') {
    throw new UsageError({
      code: 'MIRROR_INVALID',
      message: `${variable}: expected an address such as https://mirror.example/path, received ${shown(text)}`,
      hint: `correct it, or unset ${variable} to ask the publisher`,
    });
  }
  const { username, password, origin, pathname } = url;
  const address = { url: `${origin}${pathname.replace(/\/+$/, '')}` };
  if (username === '' && password === '') return address;
  const named = `${decodeURIComponent(username)}:${decodeURIComponent(password)}`;
  return { ...address, authorization: `Basic ${Buffer.from(named).toString('base64')}` }; // RFC 7617
}

/** An address as it may be printed: without passwords, and without the signatures in queries of storage servers. */
export function shown(address: string): string {
  if (!URL.canParse(address)) return JSON.stringify(address.replace(/\/\/[^/@]*@/, '//')).slice(0, 200);
  const { origin, protocol, host, pathname, search } = new URL(address);
  return `${origin === 'null' ? `${protocol}//${host}` : origin}${pathname}${search === '' ? '' : '?...'}`;
}
