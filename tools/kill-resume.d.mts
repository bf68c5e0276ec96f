/** Commands of runs by name, without their data, their folder and what all have in common. */
export declare const cases: Readonly<Record<string, readonly string[]>>;

/** A process that was killed. */
export interface Kill {
  readonly case: string;
  /** Which run it belongs to. */
  readonly trial: number;
  readonly moment: string;
  /** After how many milliseconds of its life. */
  readonly ms: number;
  /** Where the run then stood. */
  readonly left: string;
}

/** Kills runs at random moments, lets them go on, and compares them with runs that nobody killed. */
export declare function killAndResume(options: {
  readonly kills: number;
  readonly seed: number;
  /** {@link cases} when absent. */
  readonly of?: Readonly<Record<string, readonly string[]>>;
  /** Where everything is put. */
  readonly folder: string;
  readonly dist?: string;
  /** To train on, of each class; 24 when absent. */
  readonly pictures?: number;
  readonly say?: (line: string) => void;
}): Promise<{ readonly rows: readonly Kill[]; readonly faults: readonly string[] }>;

/** What two run folders differ in, but for the clock. */
export declare function differences(dist: string, one: string, other: string): Promise<string[]>;
