/* Evaluates a forest of decision trees that lies in memory as export/compiled.py writes it.
 *
 * The model is data, so a wrong one can be a wrong answer and never foreign code: forest_check refuses whatever would
 * read outside of the file or never end. Comparisons and sums are scikit-learn's own, in its order: a feature as a
 * 32-bit float against a 64-bit threshold, the leaves summed tree by tree, and the sum divided once.
 */
#include <stddef.h>
#include <stdint.h>

typedef struct {
    double threshold;
    int32_t feature; /* -1 in a leaf */
    int32_t left;    /* in a leaf: the row of `leaves` that is its answer */
    int32_t right;
    int32_t missing_left; /* whether a row without this feature, a NaN, goes left */
} Node;

typedef struct {
    int32_t features, outputs, tree_count, node_count, leaf_count;
    const double *leaves;
    const Node *nodes;
    const int32_t *roots;
} Forest;

/* 0 if every walk through the forest ends in a leaf that is there. */
int forest_check(const Forest *forest) {
    for (int32_t tree = 0; tree < forest->tree_count; tree++)
        if (forest->roots[tree] < 0 || forest->roots[tree] >= forest->node_count) return 1;
    for (int32_t index = 0; index < forest->node_count; index++) {
        const Node *node = &forest->nodes[index];
        if (node->feature == -1) {
            if (node->left < 0 || node->left >= forest->leaf_count) return 2;
        } else {
            if (node->feature < 0 || node->feature >= forest->features) return 3;
            /* A child stands behind its parent, so no walk comes back. */
            if (node->left <= index || node->left >= forest->node_count) return 4;
            if (node->right <= index || node->right >= forest->node_count) return 5;
        }
    }
    return 0;
}

/* The mean of the leaves that each row ends in: `outputs` numbers a row, into `answers`. */
void forest_answer(const Forest *forest, const float *rows, size_t count, double *answers) {
    const int32_t outputs = forest->outputs;
    for (size_t row = 0; row < count; row++, rows += forest->features, answers += outputs) {
        for (int32_t output = 0; output < outputs; output++) answers[output] = 0.0;
        for (int32_t tree = 0; tree < forest->tree_count; tree++) {
            const Node *node = &forest->nodes[forest->roots[tree]];
            while (node->feature != -1) {
                const float value = rows[node->feature];
                /* A NaN is the only value that differs from itself. */
                const int left = value != value ? node->missing_left : (double)value <= node->threshold;
                node = &forest->nodes[left ? node->left : node->right];
            }
            const double *leaf = &forest->leaves[(size_t)node->left * outputs];
            for (int32_t output = 0; output < outputs; output++) answers[output] += leaf[output];
        }
        for (int32_t output = 0; output < outputs; output++) answers[output] /= forest->tree_count;
    }
}
