// Bytes that the C library's allocator has handed out and not got back, as a function of a Node addon; free memory that it keeps does
// not count. Node's headers are not needed: the two functions of Node-API are declared here.
#include <malloc.h>
#include <stddef.h>

int napi_create_double(void *env, double value, void **result);
int napi_create_function(void *env, const char *name, size_t length, void *(*call)(void *, void *), void *data, void **result);

static void *in_use(void *env, void *info) {
  (void)info;
  struct mallinfo2 all = mallinfo2();
  void *result = NULL;
  napi_create_double(env, (double)all.uordblks + (double)all.hblkhd, &result);
  return result;
}

void *napi_register_module_v1(void *env, void *exports) {
  void *result = exports;
  napi_create_function(env, "inUse", 5, in_use, NULL, &result);
  return result;
}
