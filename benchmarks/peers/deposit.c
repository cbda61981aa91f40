/* The map engine's loop in C, for benchmarks/map_engine.py: as a plain loop, and with GCC's vector types.

   Compiled with: cc -O3 -march=native -shared -fPIC. Same blocks, same arithmetic and same memory as
   galineage.views.kernel.deposit_fast; the compiler may fuse multiplications with additions. */

#include <math.h>
#include <stdint.h>

enum { BLOCK = 512 };

static void locate(const float *motion, const float *camera, int64_t n, int64_t side, int64_t start, int64_t size,
                   int32_t *restrict pixel, float *restrict velocity)
{
    const float *x = motion + start, *y = x + n, *z = y + n, *vx = z + n, *vy = vx + n, *vz = vy + n;
    const float r0 = camera[0], r1 = camera[1], r2 = camera[2], r3 = camera[3];
    const float u0 = camera[4], u1 = camera[5], u2 = camera[6], u3 = camera[7];
    const float l0 = camera[8], l1 = camera[9], l2 = camera[10];
    const float width = (float)side, last = (float)(side - 1), outside = (float)(side * side);
    for (int64_t i = 0; i < size; i++) {
        float across = r0 * x[i] + r1 * y[i] + r2 * z[i] + r3;
        float up = u0 * x[i] + u1 * y[i] + u2 * z[i] + u3;
        velocity[i] = l0 * vx[i] + l1 * vy[i] + l2 * vz[i];
        int inside = (across >= 0.0f) & (across <= width) & (up >= 0.0f) & (up <= width);
        float column = floorf(across), row = floorf(up);
        column = column < width ? column : last;
        row = row < width ? row : last;
        pixel[i] = (int32_t)(inside ? row * width + column : outside);
    }
}

void deposit_loop(const float *motion, const float *record, const float *camera, int64_t n, int64_t side,
                  double *restrict grid)
{
    int32_t pixel[BLOCK];
    float velocity[BLOCK];
    for (int64_t start = 0; start < n; start += BLOCK) {
        int64_t size = n - start < BLOCK ? n - start : BLOCK;
        locate(motion, camera, n, side, start, size, pixel, velocity);
        for (int64_t i = 0; i < size; i++) {
            const float *star = record + 4 * (start + i);
            double *into = grid + 8 * (int64_t)pixel[i], v = velocity[i], v2 = v * v;
            double count = star[0], mass = star[1];
            into[0] += count;
            into[1] += mass;
            into[2] += star[2];
            into[3] += star[3];
            into[4] += count * v;
            into[5] += count * v2;
            into[6] += mass * v;
            into[7] += mass * v2;
        }
    }
}

typedef float four_floats __attribute__((vector_size(16), aligned(4)));
typedef double four __attribute__((vector_size(32)));
typedef double eight __attribute__((vector_size(64), aligned(8)));
typedef int64_t places __attribute__((vector_size(64)));

void deposit_vectors(const float *motion, const float *record, const float *camera, int64_t n, int64_t side,
                     double *restrict grid)
{
    int32_t pixel[BLOCK];
    float velocity[BLOCK];
    const places lanes = {0, 1, 2, 3, 0, 0, 1, 1};
    for (int64_t start = 0; start < n; start += BLOCK) {
        int64_t size = n - start < BLOCK ? n - start : BLOCK;
        locate(motion, camera, n, side, start, size, pixel, velocity);
        for (int64_t i = 0; i < size; i++) {
            four star = __builtin_convertvector(*(const four_floats *)(record + 4 * (start + i)), four);
            double v = velocity[i], v2 = v * v;
            eight wide = {star[0], star[1], star[2], star[3], 0, 0, 0, 0};
            eight factors = {1, 1, 1, 1, v, v2, v, v2};
            eight *into = (eight *)(grid + 8 * (int64_t)pixel[i]);
            *into += __builtin_shuffle(wide, lanes) * factors;
        }
    }
}
