/**
 * The public door of the package. What the command line does, a program can do with what is exported here; nothing
 * else is meant to be imported.
 */

export type { Channels, ImageSize } from './augment/image.js';
export {
  describePreprocessing,
  type Fit,
  type Preprocessing,
  type ResizeKernel,
  type ResizeRule,
  withChannels,
} from './augment/preprocessing.js';
export { type Augmentation, augmentations } from './augment/recipe.js';
export {
  type Backbone,
  type BuildOptions,
  backbones,
  buildBackbone,
  findBackbone,
  findPublished,
  type Published,
  type Source,
} from './backbones/index.js';
export { type Analysis, analyse, type NodeAnalysis, type Totals } from './engine/analysis.js';
export { type DenseArray, type ForwardRequest, forwardInBatches } from './engine/forward.js';
export { cuts, type Graph, type Node, type Parameter, type Role, type Shape } from './engine/graph.js';
export { type LoadOptions, loadNetwork, type Network, type ReadParameter } from './engine/network.js';
export { type SetupOptions, type SetupReport, setUpEngine } from './engine/setup/index.js';
export { type EngineInspection, inspectEngines } from './engine/setup/inspect.js';
export {
  type Engine,
  type EngineName,
  type EngineOptions,
  loadEngine,
  toolkitHome,
} from './engine/tensorflow.js';
export {
  DataError,
  EngineError,
  type ErrorDetails,
  FormatError,
  ToolkitError,
  UsageError,
  WeightsError,
} from './errors.js';
export type { Answers, Comparison } from './export/compare.js';
export { type ExportOptions, type ExportReport, exportModel } from './export/export.js';
export { type ExportedModel, openExport } from './export/exported.js';
export type { ExportableModel, PictureBatch, Pictures } from './export/format.js';
export { type FormatName, formatNames } from './export/formats.js';
export { type LoadedModel, loadModel } from './export/load-model.js';
export { type Quantization, quantizations } from './export/quantize/quantizations.js';
export type { ExportRecord } from './export/record.js';
export { exportWeights, type WeightsExportOptions, type WeightsExportReport } from './export/weights/weights.js';
export { type WeightsDialect, weightsDialects } from './export/weights/weights-dialects.js';
export { type NetworkToWrite, networkOfModel, networkOfWeights } from './export/weights/weights-network.js';
export { formatHead, type Head, parseHead } from './heads/heads.js';
export type { Classifier, LoadableModel } from './train/classifier.js';
export { type ComparedRun, compareRuns, type Difference, type RunComparison } from './train/compare.js';
export { type EvaluateOptions, type Evaluation, evaluate, type PictureOutcome } from './train/evaluate.js';
export { finetune } from './train/finetune.js';
export { type EvaluatedSplit, labelledPictures, labelledSamples, type PicturesAt } from './train/labelled.js';
export { type FindOptions, type FindResult, findLearningRate } from './train/lr-find.js';
export type {
  Calibration,
  CalibrationBin,
  ClassScores,
  Confusion,
  Figures,
  Outcome,
  Scores,
  ValidationMetrics,
} from './train/metrics.js';
export type { OptimizerName } from './train/optimizers.js';
export type { FinetuneOptions, FinetuneResult, HistoryRow, Reporter, RunMetrics } from './train/options.js';
export type { Overfitting } from './train/overfitting.js';
export { type Guess, type Prediction, type PredictOptions, predict } from './train/predict.js';
export type { ScheduleName } from './train/schedule.js';
export { completeSettings, defaultLr } from './train/settings/complete.js';
export { type Configuration, formatConfiguration, readConfiguration } from './train/settings/config.js';
export { findRecipe, layered, type Recipe, recipes, settingsOf } from './train/settings/recipes.js';
export type { FinetuneSettings, GivenSettings } from './train/settings/settings.js';
export type { TestTimeAugmentation } from './train/test-time.js';
export { version } from './version.js';
export { type Adapted, adaptWeights } from './weights/adapt.js';
export {
  type ImportOptions,
  type ImportPlan,
  type ImportReport,
  type ImportRow,
  type ImportVerdict,
  importWeights,
  planImport,
} from './weights/import.js';
export { type ModelRecord, type OpenedModel, openModelFolder, saveModelFolder } from './weights/model-folder.js';
export { type NpyArray, readNpy } from './weights/numpy/npy.js';
export { writeNpz } from './weights/numpy/npz.js';
export type { Adaptation, AdaptationKind } from './weights/plan/adaptations.js';
export type { AverageChoice, ClassifierChoice, Verdict } from './weights/plan/plan.js';
export { type PullOptions, type PullPlan, type PullReport, planPull, pullWeights } from './weights/pull.js';
export { type ResolvedWeights, resolveWeights, type WeightsRequest } from './weights/resolve.js';
export { type SafetensorsEntry, writeSafetensors } from './weights/safetensors.js';
export { openWeights, type TensorInfo, type TensorSource, type WeightsFormat } from './weights/source.js';
export { listStored, type StoredWeights, type StoreRecord, storeFolder } from './weights/store.js';
