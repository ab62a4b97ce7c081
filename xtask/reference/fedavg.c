// A speed limit for whole rounds: federated averaging of CLIENTS clients with COUNT images each, on threads.
//
// The training is that of mlp.c, compiled for one shape. Client k has the images from k * COUNT on, in their order: an
// epoch is one batch, so an order would change nothing. A round is the training of all clients, the mean of
// their models, and the accuracy on the test set.
//
//     gcc -O3 -march=native -ffast-math -pthread -DD0=784 -DD1=16 -DD2=0 -DD3=10 -DBATCH=600 -DEPOCHS=5
//         -DCLIENTS=100 -DCOUNT=600 fedavg.c -lm
//
// `fedavg FOLDER THREADS ROUNDS` reads the four unpacked files of MNIST, and prints the median time of a round and the
// time of the whole program in seconds, and the accuracy in percent.

#define OWN static _Thread_local
#define NO_MAIN
#include "mlp.c"

#include <pthread.h>

#define TRAIN (CLIENTS * COUNT)
#define TESTS 10000
#define HALF (D2 ? D2 : D3)
#define PARAMS (D0 * PAD(D1) + PAD(D1) + D1 * PAD(HALF) + PAD(HALF) + (D2 ? D2 * PAD(D3) + PAD(D3) : 0))

static uint8_t *train_labels, *test_labels;
static list *train_inputs, *test_inputs;
static uint32_t *in_order;
static float *model;
static int threads;

typedef struct {
    pthread_t thread;
    int number, right;
    float *own, *sum;
} worker;

// Lays the layers of a model out in `at`.
static void lay(float *at) {
    for (int l = 0; l < LAYERS; l++) {
        const int pad = PAD(l == LAYERS - 1 ? D3 : size[l + 1]);
        weights[l] = at;
        biases[l] = at + (size_t)size[l] * pad;
        at = biases[l] + pad;
    }
}

static void *work(void *given) {
    worker *me = given;
    for (int l = 1; l < LAYERS; l++)
        for (int e = 0; e < BATCH; e++)
            if (!lists[l][e].at) lists[l][e] = new_list(WIDEST);
    memset(me->sum, 0, PARAMS * sizeof *me->sum);
    count = COUNT;
    order = in_order;
    for (int k = me->number; k < CLIENTS; k += threads) {
        memcpy(me->own, model, PARAMS * sizeof *me->own);
        lay(me->own);
        inputs = train_inputs + k * COUNT;
        labels = train_labels + k * COUNT;
        train();
        for (int i = 0; i < PARAMS; i++) me->sum[i] += me->own[i];
    }
    for (int l = 1; l < LAYERS; l++)
        for (int e = 0; e < BATCH; e++) {
            free(lists[l][e].at);
            free(lists[l][e].x);
        }
    return NULL;
}

static void *look(void *given) {
    worker *me = given;
    lists[1][0] = new_list(WIDEST);
    lists[2][0] = new_list(WIDEST);
    me->right = 0;
    lay(model);
    const int e = 0;
    for (int n = me->number; n < TESTS; n += threads) {
        lists[0][0] = test_inputs[n];
        FORWARD(0, D1, outputs);
        list_relu(outputs, D1, &lists[1][0]);
        if (D2) {
            FORWARD(1, D2, outputs);
            list_relu(outputs, D2, &lists[2][0]);
            FORWARD(2, D3, outputs);
        } else {
            FORWARD(1, D3, outputs);
        }
        int best = 0;
        for (int i = 1; i < D3; i++) best = outputs[i] > outputs[best] ? i : best;
        me->right += best == test_labels[n];
    }
    for (int l = 1; l < 3; l++) {
        free(lists[l][0].at);
        free(lists[l][0].x);
    }
    return NULL;
}

static void all(worker *workers, void *(*job)(void *)) {
    for (int t = 0; t < threads; t++) pthread_create(&workers[t].thread, NULL, job, &workers[t]);
    for (int t = 0; t < threads; t++) pthread_join(workers[t].thread, NULL);
}

static uint8_t *read_file(const char *folder, const char *name, size_t head, size_t bytes) {
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "rb");
    if (!file || fseek(file, (long)head, SEEK_SET)) exit(1);
    uint8_t *read = take(file, bytes);
    fclose(file);
    return read;
}

static list *list_all(const uint8_t *images, int n) {
    list *all = malloc(n * sizeof *all);
    for (int i = 0; i < n; i++) all[i] = list_octets(images + (size_t)i * D0);
    return all;
}

static int ascending(const void *a, const void *b) {
    return (*(const double *)a > *(const double *)b) - (*(const double *)a < *(const double *)b);
}

int main(int argc, char **argv) {
    const double from = now();
    if (argc != 4) return 1;
    threads = atoi(argv[2]);
    const int rounds = atoi(argv[3]);
    if (threads < 1 || threads > 1024 || rounds < 1) return 1;
    train_inputs = list_all(read_file(argv[1], "train-images-idx3-ubyte", 16, (size_t)TRAIN * D0), TRAIN);
    train_labels = read_file(argv[1], "train-labels-idx1-ubyte", 8, TRAIN);
    test_inputs = list_all(read_file(argv[1], "t10k-images-idx3-ubyte", 16, (size_t)TESTS * D0), TESTS);
    test_labels = read_file(argv[1], "t10k-labels-idx1-ubyte", 8, TESTS);
    in_order = malloc(sizeof *in_order * COUNT * EPOCHS);
    for (int i = 0; i < COUNT * EPOCHS; i++) in_order[i] = i % COUNT;
    model = take(NULL, PARAMS * sizeof *model);
    lay(model);
    srand(1);
    for (int l = 0; l < LAYERS; l++) {
        // He's, as fl-nn's.
        const int in = size[l], out = l == LAYERS - 1 ? D3 : size[l + 1];
        for (int i = 0; i < in; i++)
            for (int j = 0; j < out; j++)
                weights[l][(size_t)i * PAD(out) + j] = sqrtf(6.0f / in) * (2.0f * rand() / RAND_MAX - 1);
    }
    worker *workers = calloc(threads, sizeof *workers);
    for (int t = 0; t < threads; t++) {
        workers[t].number = t;
        workers[t].own = take(NULL, PARAMS * sizeof *model);
        workers[t].sum = take(NULL, PARAMS * sizeof *model);
    }
    double *times = malloc(rounds * sizeof *times);
    int right = 0;
    for (int round = 0; round < rounds; round++) {
        const double begin = now();
        all(workers, work);
        for (int i = 0; i < PARAMS; i++) {
            float sum = 0;
            for (int t = 0; t < threads; t++) sum += workers[t].sum[i];
            model[i] = sum / CLIENTS;
        }
        all(workers, look);
        right = 0;
        for (int t = 0; t < threads; t++) right += workers[t].right;
        times[round] = now() - begin;
    }
    qsort(times, rounds, sizeof *times, ascending);
    printf("%.6f %.6f %.2f\n", times[rounds / 2] / 1e9, (now() - from) / 1e9, 100.0 * right / TESTS);
}
