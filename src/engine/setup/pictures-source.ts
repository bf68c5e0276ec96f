/**
 * The source of `pictures.node`: decodes JPEGs on the process' thread pool through TensorFlow's own decoder, and has the
 * loops of `augment` over RGB pictures, which compilers make three to six times as fast as JavaScript is.
 *
 * Every loop gives the very bits that its JavaScript gives: the same integers, and floats rounded after each operation
 * (`-ffp-contract=off`). Its callers are `augment` and `data`, by the interface in `src/addon.ts`, and they alone see to it
 * that what is read lies inside the arrays. Four lanes hold a pixel; wider machines are used where a loop runs over bytes.
 */
export const PICTURES_SOURCE = `
#include <node_api.h>
#include <tensorflow/c/eager/c_api.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <memory>
#include <new>
#include <unistd.h>

// The same loop compiled for several processors, of which the right one is taken as the library is loaded.
#if defined(__x86_64__) && defined(__gnu_linux__) && (!defined(__clang__) || __clang_major__ >= 14)
#define CLONES __attribute__((target_clones("avx2", "sse4.1", "default")))
#else
#define CLONES
#endif

namespace {

// ---- JPEG

// On the threads where it is set, what the C library writes to standard error goes nowhere: the decoder would tell there
// what is wrong with a damaged file, without its name. That glibc's stderr may be set is in its manual (Standard Streams).
thread_local bool quiet = false;
// It did so: the file is damaged, though it may have given a picture, and decoders differ in which damage they pass over.
thread_local bool warned = false;

void installQuiet() {
#ifdef __GLIBC__
  cookie_io_functions_t functions = {};
  functions.write = [](void*, const char* text, size_t size) -> ssize_t {
    if (!quiet) return write(STDERR_FILENO, text, size);
    warned = true;
    return static_cast<ssize_t>(size);
  };
  FILE* stream = fopencookie(nullptr, "w", functions);
  if (stream == nullptr) return;
  setvbuf(stream, nullptr, _IONBF, 0);
  stderr = stream;
#endif
}

// ConfigProto (tensorflow/core/protobuf/config.proto): device_count {"GPU": 0}, inter_op_parallelism_threads 1.
const uint8_t kConfig[] = {0x0a, 7, 0x0a, 3, 'G', 'P', 'U', 0x10, 0, 0x28, 1};

struct Status {
  TF_Status* const is = TF_NewStatus();
  ~Status() { TF_DeleteStatus(is); }
  bool ok() const { return TF_GetCode(is) == TF_OK; }
};

// One for all threads and the life of the process; null where TensorFlow makes none.
TFE_Context* context() {
  static TFE_Context* const made = [] {
    installQuiet();
    Status status;
    TFE_ContextOptions* options = TFE_NewContextOptions();
    TFE_ContextOptionsSetConfig(options, kConfig, sizeof kConfig, status.is);
    TFE_Context* context = TFE_NewContext(options, status.is);
    TFE_DeleteContextOptions(options);
    return status.ok() ? context : nullptr;
  }();
  return made;
}

// [height, width, 1 or 3] of bytes, or null. The slow, exact DCT and smooth chroma are what Pillow's decoder does.
TF_Tensor* decode(const char* file, size_t size) {
  if (context() == nullptr) return nullptr;
  Status status;
  TF_Tensor* contents = TF_AllocateTensor(TF_STRING, nullptr, 0, sizeof(TF_TString));
  TF_TString* text = static_cast<TF_TString*>(TF_TensorData(contents));
  TF_StringInit(text);
  TF_StringAssignView(text, file, size);
  TFE_TensorHandle* input = TFE_NewTensorHandle(contents, status.is);
  TF_DeleteTensor(contents);
  TFE_Op* op = TFE_NewOp(context(), "DecodeJpeg", status.is);
  if (op != nullptr && input != nullptr) TFE_OpAddInput(op, input, status.is);
  TFE_TensorHandle* output = nullptr;
  TF_Tensor* pixels = nullptr;
  if (status.ok()) {
    TFE_OpSetAttrString(op, "dct_method", "INTEGER_ACCURATE", strlen("INTEGER_ACCURATE"));
    TFE_OpSetAttrBool(op, "fancy_upscaling", 1);
    int outputs = 1;
    quiet = true;
    warned = false;
    TFE_Execute(op, &output, &outputs, status.is);
    quiet = false;
  }
  if (status.ok() && !warned) pixels = TFE_TensorHandleResolve(output, status.is);
  if (output != nullptr) TFE_DeleteTensorHandle(output);
  if (op != nullptr) TFE_DeleteOp(op);
  if (input != nullptr) TFE_DeleteTensorHandle(input);
  return pixels;
}

// Copied as a picture of this EXIF orientation is to be shown (EXIF 2.32, 4.6.4): transposed from 5 on, then mirrored.
void upright(TF_Tensor* stored, int orientation, uint8_t* out) {
  const int64_t height = TF_Dim(stored, 0), width = TF_Dim(stored, 1), channels = TF_Dim(stored, 2);
  const uint8_t* const pixels = static_cast<const uint8_t*>(TF_TensorData(stored));
  const bool lies = orientation >= 5;
  const bool fromRight = orientation == 2 || orientation == 3 || orientation == 7 || orientation == 8;
  const bool fromBelow = orientation == 3 || orientation == 4 || orientation == 6 || orientation == 7;
  const int64_t across = fromRight ? -channels : channels;
  const int64_t down = (fromBelow ? -width : width) * channels;
  const uint8_t* const first =
      pixels + (fromBelow ? (height - 1) * width * channels : 0) + (fromRight ? (width - 1) * channels : 0);
  for (int64_t y = 0; y < (lies ? width : height); y++) {
    const uint8_t* from = first + y * (lies ? across : down);
    for (int64_t x = 0; x < (lies ? height : width); x++, from += lies ? down : across) {
      for (int64_t c = 0; c < channels; c++) *out++ = from[c];
    }
  }
}

// ---- Loops. Four lanes hold a pixel and the first value of the next, which is of no use.

typedef int32_t Ints __attribute__((vector_size(16)));
typedef float Floats __attribute__((vector_size(16)));
typedef double Doubles __attribute__((vector_size(32)));

template <class Lanes, class T>
inline Lanes pixelAt(const T* first) {
  Lanes lanes;
  memcpy(&lanes, first, sizeof lanes);
  return lanes;
}

const int kPrecisionBits = 32 - 8 - 2;  // Pillow's Resample.c
const int32_t kHalf = 1 << (kPrecisionBits - 1);

inline uint8_t clip(int32_t sum) {
  const int32_t value = sum >> kPrecisionBits;
  return value < 0 ? 0 : value > 255 ? 255 : value;
}

struct Taps {
  const int32_t* starts;
  const int32_t* counts;
  const int32_t* weights;  // taps apart, in fixed point
  int32_t taps;
  int32_t length;
};

// Rows of width pixels, stride bytes apart, to rows of columns.length pixels without gaps.
CLONES void pillowAlongRows(const uint8_t* in, int32_t stride, int32_t width, int32_t rows, Taps columns, uint8_t* out) {
  const std::unique_ptr<int32_t[]> pixels(new int32_t[3 * width + 1]()), sums(new int32_t[3 * columns.length + 1]);
  for (int32_t y = 0; y < rows; y++, in += stride, out += 3 * columns.length) {
    for (int32_t x = 0; x < 3 * width; x++) pixels[x] = in[x];
    for (int32_t x = 0; x < columns.length; x++) {
      const int32_t* weights = columns.weights + x * columns.taps;
      const int32_t* pixel = pixels.get() + 3 * columns.starts[x];
      Ints sum = {kHalf, kHalf, kHalf, kHalf};
      for (int32_t k = 0; k < columns.counts[x]; k++, pixel += 3) sum += pixelAt<Ints>(pixel) * weights[k];
      memcpy(&sums[3 * x], &sum, sizeof sum);
    }
    for (int32_t x = 0; x < 3 * columns.length; x++) out[x] = clip(sums[x]);
  }
}

// The first of the rows that come in is row first of those that rows.starts counts.
CLONES void pillowDownColumns(const uint8_t* in, int32_t stride, int32_t first, Taps rows, uint8_t* out) {
  const std::unique_ptr<int32_t[]> sums(new int32_t[stride]);
  for (int32_t y = 0; y < rows.length; y++, out += stride) {
    const uint8_t* row = in + static_cast<int64_t>(rows.starts[y] - first) * stride;
    for (int32_t x = 0; x < stride; x++) sums[x] = kHalf;
    for (int32_t k = 0; k < rows.counts[y]; k++, row += stride) {
      const int32_t weight = rows.weights[y * rows.taps + k];
      for (int32_t x = 0; x < stride; x++) sums[x] += row[x] * weight;
    }
    for (int32_t x = 0; x < stride; x++) out[x] = clip(sums[x]);
  }
}

struct Neighbours {
  const int32_t* lower;
  const int32_t* upper;
  const float* lerp;
  int32_t length;
};

CLONES void lerp(const uint8_t* in, int32_t stride, int32_t width, Neighbours columns, Neighbours rows, float* out) {
  const std::unique_ptr<float[]> top(new float[3 * width + 1]()), bottom(new float[3 * width + 1]());
  for (int32_t y = 0; y < rows.length; y++) {
    const uint8_t* above = in + static_cast<int64_t>(rows.lower[y]) * stride;
    const uint8_t* below = in + static_cast<int64_t>(rows.upper[y]) * stride;
    for (int32_t x = 0; x < 3 * width; x++) top[x] = above[x];
    for (int32_t x = 0; x < 3 * width; x++) bottom[x] = below[x];
    const float v = rows.lerp[y];
    for (int32_t x = 0; x < columns.length; x++, out += 3) {
      const int32_t left = 3 * columns.lower[x], right = 3 * columns.upper[x];
      const float u = columns.lerp[x];
      const Floats topLeft = pixelAt<Floats>(&top[left]), bottomLeft = pixelAt<Floats>(&bottom[left]);
      const Floats a = topLeft + (pixelAt<Floats>(&top[right]) - topLeft) * u;
      const Floats b = bottomLeft + (pixelAt<Floats>(&bottom[right]) - bottomLeft) * u;
      const Floats pixel = a + (b - a) * v;
      memcpy(out, &pixel, 3 * sizeof(float));
    }
  }
}

// Where a pixel's channels come from, and whether rows are written from their end.
struct Way {
  int32_t width;
  int32_t height;
  int32_t source[3];
  int32_t flip;
};

void lookUp(const uint8_t* in, const float* tables, Way way, float* out) {
  const int32_t step = way.flip ? -3 : 3;
  for (int32_t y = 0; y < way.height; y++, out += 3 * way.width) {
    float* to = out + (way.flip ? 3 * (way.width - 1) : 0);
    for (int32_t x = 0; x < way.width; x++, in += 3, to += step) {
      for (int c = 0; c < 3; c++) to[c] = tables[256 * c + in[way.source[c]]];
    }
  }
}

// In double precision, rounded once.
CLONES void standardise(const float* in, double scale, const double* shift, const double* spread, Way way, float* out) {
  const Doubles shifts = {shift[0], shift[1], shift[2], 0}, spreads = {spread[0], spread[1], spread[2], 1};
  const bool divides = spread[0] != 1 || spread[1] != 1 || spread[2] != 1;  // which takes as long as all else
  const int32_t step = way.flip ? -3 : 3;
  for (int32_t y = 0; y < way.height; y++, out += 3 * way.width) {
    float* to = out + (way.flip ? 3 * (way.width - 1) : 0);
    for (int32_t x = 0; x < way.width; x++, in += 3, to += step) {
      const Doubles pixel = {in[way.source[0]], in[way.source[1]], in[way.source[2]], 0};
      const Doubles shifted = pixel * scale - shifts;
      const Floats value = __builtin_convertvector(divides ? shifted / spreads : shifted, Floats);
      memcpy(to, &value, 3 * sizeof(float));
    }
  }
}

// ---- The way in: arguments are typed arrays.

struct Arguments {
  napi_env env;
  napi_value given[12];
  Arguments(napi_env env, napi_callback_info info) : env(env) {
    size_t count = 12;
    napi_get_cb_info(env, info, &count, given, nullptr, nullptr);
  }
  template <class T>
  T* at(int i, size_t* length = nullptr) const {
    void* data = nullptr;
    napi_get_typedarray_info(env, given[i], nullptr, length, &data, nullptr, nullptr);
    return static_cast<T*>(data);
  }
  int32_t lengthOf(int i) const {
    size_t length = 0;
    at<void>(i, &length);
    return static_cast<int32_t>(length);
  }
};

// What arguments 1 to 7 say of a resize: [origin, stride, width, first row, rows, taps of columns, taps of rows], then
// starts, counts and weights of columns, and the same of rows.
struct ByPillow {
  const int32_t* g;
  Taps columns, rows;
  template <class Given>
  explicit ByPillow(const Given& its)
      : g(its.template at<int32_t>(1)),
        columns{its.template at<int32_t>(2), its.template at<int32_t>(3), its.template at<int32_t>(4), g[5], its.lengthOf(2)},
        rows{its.template at<int32_t>(5), its.template at<int32_t>(6), its.template at<int32_t>(7), g[6], its.lengthOf(5)} {}
  // The first pass; null where there is no memory.
  std::unique_ptr<uint8_t[]> alongRows(const uint8_t* in) const {
    std::unique_ptr<uint8_t[]> out(new (std::nothrow) uint8_t[static_cast<size_t>(g[4]) * 3 * columns.length]);
    if (out) pillowAlongRows(in + g[0], g[1], g[2], g[4], columns, out.get());
    return out;
  }
  // The second, for some rows of the result.
  void downColumns(const uint8_t* between, int32_t from, int32_t count, uint8_t* out) const {
    const Taps some = {rows.starts + from, rows.counts + from, rows.weights + from * rows.taps, rows.taps, count};
    pillowDownColumns(between, 3 * columns.length, g[3], some, out);
  }
};

// The same: [origin, stride, width], then lower, upper and lerp of columns, and of rows.
struct ByLerp {
  const int32_t* g;
  Neighbours columns, rows;
  template <class Given>
  explicit ByLerp(const Given& its)
      : g(its.template at<int32_t>(1)),
        columns{its.template at<int32_t>(2), its.template at<int32_t>(3), its.template at<float>(4), its.lengthOf(2)},
        rows{its.template at<int32_t>(5), its.template at<int32_t>(6), its.template at<float>(7), its.lengthOf(5)} {}
  void rowsOf(const uint8_t* in, int32_t from, int32_t count, float* out) const {
    lerp(in + g[0], g[1], g[2], columns, {rows.lower + from, rows.upper + from, rows.lerp + from, count}, out);
  }
};

// pillow(in, seven arrays of a resize, out)
napi_value Pillow(napi_env env, napi_callback_info info) {
  const Arguments its(env, info);
  const ByPillow resize(its);
  const auto between = resize.alongRows(its.at<uint8_t>(0));
  if (between) resize.downColumns(between.get(), 0, resize.rows.length, its.at<uint8_t>(8));
  else napi_throw_range_error(env, nullptr, "no memory for a picture");
  return nullptr;
}

// lerp(in, seven arrays of a resize, out)
napi_value Lerp(napi_env env, napi_callback_info info) {
  const Arguments its(env, info);
  const ByLerp resize(its);
  resize.rowsOf(its.at<uint8_t>(0), 0, resize.rows.length, its.at<float>(8));
  return nullptr;
}

Way wayOf(const int32_t* g) { return {g[0], g[1], {g[2], g[3], g[4]}, g[5]}; }

// lookUp(in, [width, height, three sources, flip], tables, out)
napi_value LookUp(napi_env env, napi_callback_info info) {
  const Arguments its(env, info);
  lookUp(its.at<uint8_t>(0), its.at<float>(2), wayOf(its.at<int32_t>(1)), its.at<float>(3));
  return nullptr;
}

// standardise(in, [width, height, three sources, flip], [scale, three shifts, three spreads], out)
napi_value Standardise(napi_env env, napi_callback_info info) {
  const Arguments its(env, info);
  const double* numbers = its.at<double>(2);
  standardise(its.at<float>(0), numbers[0], numbers + 1, numbers + 4, wayOf(its.at<int32_t>(1)), its.at<float>(3));
  return nullptr;
}

// ---- JPEGs, on the process' thread pool

// A typed array that stays, as it lies, until Finish.
struct Kept {
  void* data = nullptr;
  size_t length = 0;
  napi_ref reference = nullptr;
  Kept(napi_env env, napi_value array) {
    napi_get_typedarray_info(env, array, nullptr, &length, &data, nullptr, nullptr);
    napi_create_reference(env, array, 1, &reference);
  }
};

// Copies of what else was given, at the same places: a few kilobytes.
struct Copies {
  std::unique_ptr<char[]> bytes[12];
  int32_t lengths[12] = {};
  void take(const Arguments& from, int i) {
    napi_typedarray_type type;
    size_t length = 0;
    void* data = nullptr;
    napi_get_typedarray_info(from.env, from.given[i], &type, &length, &data, nullptr, nullptr);
    const size_t size = length * (type == napi_float64_array ? 8 : 4);
    lengths[i] = static_cast<int32_t>(length);
    bytes[i].reset(new char[size]);
    memcpy(bytes[i].get(), data, size);
  }
  template <class T>
  T* at(int i) const {
    return reinterpret_cast<T*>(bytes[i].get());
  }
  int32_t lengthOf(int i) const { return lengths[i]; }
};

struct Job {
  Kept file, out;
  int32_t orientation = 1;
  Copies its;
  bool (*finish)(const Job&, TF_Tensor*) = nullptr;
  bool done = false;
  napi_async_work work = nullptr;
  napi_deferred promise = nullptr;
};

void Run(napi_env, void* data) {
  Job* job = static_cast<Job*>(data);
  TF_Tensor* pixels = decode(static_cast<char*>(job->file.data), job->file.length);
  if (pixels == nullptr) return;
  job->done = job->finish(*job, pixels);
  TF_DeleteTensor(pixels);
}

// Node may be ending this thread: then every call fails, and there is nothing else to do.
void Finish(napi_env env, napi_status, void* data) {
  const std::unique_ptr<Job> job(static_cast<Job*>(data));
  napi_value done;
  napi_get_boolean(env, job->done, &done);
  napi_resolve_deferred(env, job->promise, done);
  napi_delete_reference(env, job->file.reference);
  napi_delete_reference(env, job->out.reference);
  napi_delete_async_work(env, job->work);
}

napi_value queue(napi_env env, Job* job) {
  napi_value promise, name;
  napi_create_promise(env, &job->promise, &promise);
  napi_create_string_utf8(env, "decodeJpeg", NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(env, nullptr, name, Run, Finish, job, &job->work);
  napi_queue_async_work(env, job->work);
  return promise;
}

bool pixelsAlone(const Job& job, TF_Tensor* pixels) {
  if (TF_TensorByteSize(pixels) != job.out.length) return false;
  if (job.orientation == 1) memcpy(job.out.data, TF_TensorData(pixels), job.out.length);
  else upright(pixels, job.orientation, static_cast<uint8_t*>(job.out.data));
  return true;
}

// decodeJpeg(file, orientation, out)
napi_value DecodeJpeg(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Job* job = new Job{Kept(env, given.given[0]), Kept(env, given.given[2])};
  napi_get_value_int32(env, given.given[1], &job->orientation);
  job->finish = pixelsAlone;
  return queue(env, job);
}

// Rows on their way, which fit a processor's nearest memory.
const int32_t kStrip = 8;

bool throughPillow(const Job& job, const uint8_t* picture, Way way, float* out) {
  const ByPillow resize(job.its);
  const auto between = resize.alongRows(picture);
  if (!between) return false;
  const int32_t row = 3 * way.width, height = way.height;
  const std::unique_ptr<uint8_t[]> strip(new uint8_t[kStrip * row]);
  for (int32_t y = 0; y < height; y += kStrip, out += kStrip * row) {
    way.height = y + kStrip < height ? kStrip : height - y;
    resize.downColumns(between.get(), y, way.height, strip.get());
    lookUp(strip.get(), job.its.at<float>(10), way, out);
  }
  return true;
}

bool throughLerp(const Job& job, const uint8_t* picture, Way way, float* out) {
  const ByLerp resize(job.its);
  const double* numbers = job.its.at<double>(10);
  const int32_t row = 3 * way.width, height = way.height;
  const std::unique_ptr<float[]> strip(new float[kStrip * row]);
  for (int32_t y = 0; y < height; y += kStrip, out += kStrip * row) {
    way.height = y + kStrip < height ? kStrip : height - y;
    resize.rowsOf(picture, y, way.height, strip.get());
    standardise(strip.get(), numbers[0], numbers + 1, numbers + 4, way, out);
  }
  return true;
}

// Only of three channels, and of the size for which the resize was made.
template <bool (*through)(const Job&, const uint8_t*, Way, float*)>
bool resized(const Job& job, TF_Tensor* pixels) {
  const int32_t* stored = job.its.at<int32_t>(8);
  if (TF_Dim(pixels, 0) != stored[1] || TF_Dim(pixels, 1) != stored[0] || TF_Dim(pixels, 2) != 3) return false;
  const uint8_t* picture = static_cast<const uint8_t*>(TF_TensorData(pixels));
  std::unique_ptr<uint8_t[]> turned;
  if (job.orientation != 1) {
    turned.reset(new (std::nothrow) uint8_t[TF_TensorByteSize(pixels)]);
    if (!turned) return false;
    upright(pixels, job.orientation, turned.get());
    picture = turned.get();
  }
  return through(job, picture, wayOf(job.its.at<int32_t>(9)), static_cast<float*>(job.out.data));
}

// jpegByPillow(file, seven arrays of a resize, [width, height, orientation] as stored, way, tables, out), and jpegByLerp with
// the numbers of standardise for tables
template <bool (*through)(const Job&, const uint8_t*, Way, float*)>
napi_value JpegBy(napi_env env, napi_callback_info info) {
  const Arguments given(env, info);
  Job* job = new Job{Kept(env, given.given[0]), Kept(env, given.given[11])};
  for (int i = 1; i <= 10; i++) job->its.take(given, i);
  job->orientation = job->its.at<int32_t>(8)[2];
  job->finish = resized<through>;
  return queue(env, job);
}

}  // namespace

NAPI_MODULE_INIT() {
  const napi_property_descriptor functions[] = {
      {"decodeJpeg", nullptr, DecodeJpeg, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"pillow", nullptr, Pillow, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"lerp", nullptr, Lerp, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"lookUp", nullptr, LookUp, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"jpegByPillow", nullptr, JpegBy<throughPillow>, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"jpegByLerp", nullptr, JpegBy<throughLerp>, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"standardise", nullptr, Standardise, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
  };
  napi_define_properties(env, exports, sizeof functions / sizeof *functions, functions);
  return exports;
}
`;
