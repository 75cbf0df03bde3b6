#include "train/attention/summary.h"

namespace linnet::train {

Form flash_global_form() { return form_of_features<identity_features>(); }
Form flash_global_inclusive_form() { return flash_global_form(); }
Form flash_form() { return flash_global_form(); }

}  // namespace linnet::train
