/** Every name that {@link asset} knows. */
export declare const assetNames: readonly string[];

/** Path of a real file (or, for `food-pictures`, folder), fetched from its registry on first use, checked on every use. */
export declare function asset(name: string): Promise<string>;

/** Lays the food pictures out as `<targetDir>/<group>/<file>`, copies left out: 406 pictures in 10 groups. */
export declare function foodPictures(targetDir: string): Promise<{
  readonly dir: string;
  /** Pictures of each group. */
  readonly classes: Readonly<Record<string, number>>;
  readonly pictures: number;
  /** Pictures of the package that were left out as copies of another. */
  readonly copies: number;
}>;
