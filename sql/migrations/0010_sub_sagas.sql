-- Whether any type has sub-sagas, which every advance asks: one page, and empty where none has.
create index definition_step_of_sagas on definition_step (type) where does = 'saga';
