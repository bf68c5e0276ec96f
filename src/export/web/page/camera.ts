/** The camera, picture after picture, until it is stopped. */

export interface Camera {
  /** Whether there is another one to turn to. */
  readonly several: boolean;
  /** What it sees now. */
  picture(): Promise<ImageBitmap>;
  stop(): void;
}

export type Facing = 'environment' | 'user';

/** Enough for every network, and small enough to read at each step. */
const WIDTH = 1280;

/**
 * Shows the camera in `video`.
 * @throws Error that says why there is none
 */
export async function openCamera(video: HTMLVideoElement, facing: Facing): Promise<Camera> {
  if (!window.isSecureContext || !navigator.mediaDevices) {
    throw new Error('browsers give the camera to pages with an https address only (or on localhost)');
  }
  const wanted = { facingMode: facing, width: { ideal: WIDTH } };
  const stream = await navigator.mediaDevices.getUserMedia({ video: wanted, audio: false }).catch((error) => {
    throw new Error(reasonOf(error));
  });
  video.srcObject = stream;
  await video.play();
  const devices = await navigator.mediaDevices.enumerateDevices();
  return {
    several: devices.filter(({ kind }) => kind === 'videoinput').length > 1,
    picture: () => createImageBitmap(video),
    stop: () => {
      for (const track of stream.getTracks()) track.stop();
      video.srcObject = null;
    },
  };
}

function reasonOf(error: unknown): string {
  const name = error instanceof DOMException ? error.name : '';
  if (name === 'NotAllowedError') return 'it was not allowed; allow it beside the address, and try again';
  if (name === 'NotFoundError' || name === 'OverconstrainedError') return 'there is none on this device';
  if (name === 'NotReadableError') return 'another program uses it';
  return error instanceof Error ? error.message : String(error);
}
