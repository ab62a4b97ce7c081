// A speed limit for the kernels of fl-nn: a dense net with two hidden layers or one, ReLU, softmax, plain SGD
// in f32 on one thread.
//
// The arithmetic is that of fl-nn: a product and a sum are two roundings, and zeros are left out. What is free
// in C is taken: sums have any order, gradients go straight into the weights, rows are padded to whole vectors,
// the pixels that are not zero are listed before the clock runs, and the program is compiled for one shape:
//
//     gcc -O3 -march=native -ffp-contract=off -DD0=784 -DD1=200 -DD2=200 -DD3=10 -DBATCH=10 -DEPOCHS=1 mlp.c -lm
//
// D2 of 0 leaves the second hidden layer out. `mlp FILE SECONDS` prints the shortest time of an example in
// nanoseconds, and the mean loss of the last epoch. FILE comes from the example `kernels` of fl-nn: number of
// examples (u32), octets, labels, the order of each epoch (u32), initial parameters (f32).

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define LANES 16
#define VECTORS(n) (((n) + LANES - 1) / LANES)
#define PAD(n) (VECTORS(n) * LANES)
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 32")
typedef float vec __attribute__((vector_size(4 * LANES)));

#define WIDE(d1, d2) ((d1) > (d2) ? (d1) : (d2))
#define WIDEST PAD(WIDE(D1, WIDE(D2, D3)))
#define LAYERS (D2 ? 3 : 2)
static const int size[] = {D0, D1, D2 ? D2 : D3, D3};

// State of one training; fedavg.c has one in each thread.
#ifndef OWN
#define OWN static
#endif

// Numbers that are not zero, and their places.
typedef struct {
    int count, *at;
    float *x;
} list;

OWN uint32_t count;
OWN uint8_t *labels;
OWN uint32_t *order;
OWN float *weights[3], *biases[3];
OWN list lists[3][BATCH], *inputs;
OWN float deltas[3][BATCH][WIDEST] __attribute__((aligned(64)));
OWN float outputs[WIDEST] __attribute__((aligned(64)));

// sums = bias + sum of x[i] * weights[i]
INLINE void forward(const int n, const float *w, const float *bias, const list *l, float *sums) {
    vec acc[n];
    UNROLL for (int b = 0; b < n; b++) acc[b] = *(const vec *)(bias + LANES * b);
    int i = 0;
    if (n == 1) {
        // Four sums side by side: one alone would wait for itself.
        vec part[4] = {acc[0]};
        for (; i + 4 <= l->count; i += 4)
            UNROLL for (int k = 0; k < 4; k++) part[k] += l->x[i + k] * *(const vec *)(w + LANES * l->at[i + k]);
        acc[0] = (part[0] + part[1]) + (part[2] + part[3]);
    }
    for (; i < l->count; i++) {
        const float *row = w + (size_t)l->at[i] * n * LANES;
        UNROLL for (int b = 0; b < n; b++) acc[b] += l->x[i] * *(const vec *)(row + LANES * b);
    }
    UNROLL for (int b = 0; b < n; b++) *(vec *)(sums + LANES * b) = acc[b];
}

// weights[i] -= x[i] * step
INLINE void update(const int n, float *w, float *bias, const list *l, const float *step) {
    vec d[n];
    UNROLL for (int b = 0; b < n; b++) d[b] = *(const vec *)(step + LANES * b);
    for (int i = 0; i < l->count; i++) {
        float *row = w + (size_t)l->at[i] * n * LANES;
        UNROLL for (int b = 0; b < n; b++) *(vec *)(row + LANES * b) -= l->x[i] * d[b];
    }
    UNROLL for (int b = 0; b < n; b++) *(vec *)(bias + LANES * b) -= d[b];
}

// below[i] = weights[i] . d, for units that are not zero
INLINE void backward(const int n, const float *w, const list *l, const float *d, float *below) {
    for (int i = 0; i < l->count; i++) {
        const float *row = w + (size_t)l->at[i] * n * LANES;
        vec sum = {0};
        UNROLL for (int b = 0; b < n; b++) sum += *(const vec *)(row + LANES * b) * *(const vec *)(d + LANES * b);
        float total = 0;
        for (int k = 0; k < 8; k++) total += sum[k] + sum[k + 8];
        below[l->at[i]] = total;
    }
}

static list new_list(int most) {
    return (list){0, malloc(4 * most), malloc(4 * most)};
}

static list list_octets(const uint8_t *octets) {
    list l = new_list(D0);
    for (int i = 0; i < D0; i++) {
        l.at[l.count] = i;
        l.x[l.count] = octets[i] / 255.0f;
        l.count += octets[i] != 0;
    }
    l.at = realloc(l.at, 4 * l.count + 4);
    l.x = realloc(l.x, 4 * l.count + 4);
    return l;
}

INLINE void list_relu(const float *units, int n, list *l) {
    int c = 0;
    for (int i = 0; i < n; i++) {
        l->at[c] = i;
        l->x[c] = units[i];
        c += units[i] > 0;
    }
    l->count = c;
}

// Turns logits into deltas, and returns the loss.
static float softmax(const float *z, int label, float *d) {
    float max = z[0], sum = 0;
    for (int i = 1; i < D3; i++) max = z[i] > max ? z[i] : max;
    for (int i = 0; i < D3; i++) sum += d[i] = expf(z[i] - max);
    for (int i = 0; i < D3; i++) d[i] *= 1 / sum;
    d[label] -= 1;
    return logf(sum) + (max - z[label]);
}

#define FORWARD(l, n, out) forward(VECTORS(n), weights[l], biases[l], &lists[l][e], out)
#define BACKWARD(l, n) backward(VECTORS(n), weights[l], &lists[l][e], deltas[l][e], deltas[(l) - 1][e])
#define UPDATE(l, n) update(VECTORS(n), weights[l], biases[l], &lists[l][e], deltas[l][e])

static float train(void) {
    float loss = 0;
    for (int epoch = 0; epoch < EPOCHS; epoch++) {
        loss = 0;
        for (uint32_t begin = 0; begin < count; begin += BATCH) {
            const int len = count - begin < BATCH ? count - begin : BATCH;
            const float rate = 0.1f / len;
            for (int e = 0; e < len; e++) {
                const uint32_t n = order[epoch * count + begin + e];
                lists[0][e] = inputs[n];
                FORWARD(0, D1, outputs);
                list_relu(outputs, D1, &lists[1][e]);
                if (D2) {
                    FORWARD(1, D2, outputs);
                    list_relu(outputs, D2, &lists[2][e]);
                    FORWARD(2, D3, outputs);
                } else {
                    FORWARD(1, D3, outputs);
                }
                for (int l = 0; l < LAYERS; l++) memset(deltas[l][e], 0, sizeof deltas[l][e]);
                loss += softmax(outputs, labels[n], deltas[LAYERS - 1][e]);
                for (int i = 0; i < D3; i++) deltas[LAYERS - 1][e][i] *= rate;
                if (D2) {
                    BACKWARD(2, D3);
                    BACKWARD(1, D2);
                } else {
                    BACKWARD(1, D3);
                }
            }
            for (int e = 0; e < len; e++) UPDATE(0, D1);
            if (D2) {
                for (int e = 0; e < len; e++) UPDATE(1, D2);
                for (int e = 0; e < len; e++) UPDATE(2, D3);
            } else {
                for (int e = 0; e < len; e++) UPDATE(1, D3);
            }
        }
    }
    return loss / count;
}

static void *take(FILE *file, size_t bytes) {
    void *p = aligned_alloc(64, (bytes + 127) / 64 * 64);
    if (!p || (file && fread(p, 1, bytes, file) != bytes)) exit(1);
    if (!file) memset(p, 0, bytes);
    return p;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return 1e9 * t.tv_sec + t.tv_nsec;
}

#ifndef NO_MAIN
static uint8_t *images;
static float *initial;

static void begin(void) {
    const float *p = initial;
    for (int l = 0; l < LAYERS; l++) {
        const int in = size[l], out = l == LAYERS - 1 ? D3 : size[l + 1], pad = PAD(out);
        for (int i = 0; i < in; i++, p += out) memcpy(weights[l] + (size_t)i * pad, p, 4 * out);
        memcpy(biases[l], p, 4 * out);
        p += out;
    }
}

int main(int argc, char **argv) {
    FILE *file = argc == 3 ? fopen(argv[1], "rb") : 0;
    if (!file || fread(&count, 4, 1, file) != 1) return 1;
    images = take(file, (size_t)count * D0);
    labels = take(file, count);
    order = take(file, (size_t)4 * EPOCHS * count);
    size_t params = 0;
    for (int l = 0; l < LAYERS; l++) {
        const int in = size[l], out = l == LAYERS - 1 ? D3 : size[l + 1];
        params += (size_t)(in + 1) * out;
        weights[l] = take(0, (size_t)4 * in * PAD(out));
        biases[l] = take(0, 4 * PAD(out));
    }
    initial = take(file, 4 * params);
    inputs = malloc(count * sizeof *inputs);
    for (uint32_t n = 0; n < count; n++) inputs[n] = list_octets(images + (size_t)n * D0);
    for (int l = 1; l < 3; l++)
        for (int e = 0; e < BATCH; e++) lists[l][e] = new_list(WIDEST);
    double best = INFINITY, limit = now() + 1e9 * atof(argv[2]);
    float loss = 0;
    for (int turn = 0; turn < 3 || now() < limit; turn++) {
        begin();
        const double from = now();
        loss = train();
        const double time = now() - from;
        best = time < best ? time : best;
    }
    printf("%.0f %.6f\n", best / EPOCHS / count, loss);
}
#endif
